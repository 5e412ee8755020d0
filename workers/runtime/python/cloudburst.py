"""What a function is handed, and can import for its names: the platform.

    def handler(cloudburst, key, by=1):
        cloudburst.counter(key).add(by)
        if by > 100:
            raise cloudburst.Permanent("that is too much")
        return cloudburst.call("total", key)

It is here that requests to the worker are made. How they look is described in the Go
package workers/runtime/guest, how they travel in workers/runtime/python.
"""
import _thread
import json
import os
import sys
from time import monotonic_ns as now

MOST = (64 << 20) + (4 << 10)  # as guest.MaxRequest
OCTETS, NUMPY = b"application/octet-stream", b"application/vnd.numpy"
# Frames are read into ROOM. What is longer gets memory of its own, and begins PAD
# bytes into it: then an array of NUMPY begins at a multiple of 16.
ROOM, PAD = bytearray(64 << 10), 2
room = memoryview(ROOM)
OUT = sys.stdout
current = None  # the Cloudburst of the call in hand
forked = False  # in such a process the connection isn't its own


class Error(Exception):
    """What the worker answers if it can't do what it was asked. kind says what to do
    about it: "unknown", "bad argument", "too large", "lattice kinds differ", ..."""

    def __init__(self, message, kind="function failed"):
        super().__init__(message)
        self.kind = kind


class Permanent(Exception):
    """Raise it if the same call will always fail: it isn't run again."""


# Frames: four bytes of length, then as many.


def send(parts):
    size = sum(map(len, parts))
    if size > MOST:
        raise Error(f"{size} bytes, and {MOST} is the most: store large values in parts", "too large")
    parts = [size.to_bytes(4, "little"), *parts]
    if size <= len(ROOM):
        parts = [b"".join(parts)]
        size += 4 - os.write(3, parts[0])
        if not size:
            return
        parts[0] = memoryview(parts[0])[-size:]
    parts = [p for p in parts if len(p)]
    while parts:
        n = os.writev(3, parts[:16])
        while parts and n >= len(parts[0]):
            n -= len(parts.pop(0))
        if n:
            parts[0] = memoryview(parts[0])[n:]


def receive():
    """Returns a frame, which is gone with the next one if it is in ROOM."""
    have = read(room)
    while have < 4:
        have += read(room[have:])
    size = int.from_bytes(room[:4], "little")
    if size <= len(ROOM) - 4:
        while have < size + 4:
            have += read(room[have : size + 4])
        return room[4 : size + 4]
    frame = memoryview(bytearray(PAD + size))[PAD:]
    have -= 4
    frame[:have] = room[4 : have + 4]
    while have < size:
        have += read(frame[have:])
    return frame


rest = getattr(os, "sched_yield", lambda: None)  # for whom else the processor is for
eager, waited = 0, 0  # ns that read looks for something before it sleeps; that it took the last time


def read(into):
    """Reads what there is, or comes. To be woken takes longer than a short call: it
    looks again and again for a while, unless the last time took longer than that."""
    global waited
    n, began = None, now()
    if waited < eager:
        os.set_blocking(3, False)
        try:
            while n is None and now() - began < eager:
                try:
                    n = os.readv(3, (into,))
                except BlockingIOError:
                    rest()
        finally:
            os.set_blocking(3, True)
    if n is None:
        n = os.readv(3, (into,))
    waited = now() - began
    if not n:
        os._exit(0)
    return n


def field(b):
    return (len(b).to_bytes(4, "little"), b)


def fields(b):
    at = 0
    while at < len(b):
        end = at + 4 + int.from_bytes(b[at : at + 4], "little")
        yield b[at + 4 : end]
        at = end


# Values.


def plain(o):
    if hasattr(o, "tolist"):  # of numpy
        return o.tolist()
    hint = "; it can only travel alone" if isinstance(o, (bytes, bytearray, memoryview)) else ""
    raise TypeError(f"{type(o).__name__} can't be written as JSON{hint}")


dumps = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=plain).encode
loads = json.JSONDecoder().decode


def decode(kind, body):
    if not kind or kind == b"application/json":
        return loads(str(body, "utf-8")) if body else None
    if kind == NUMPY:
        return array(body)
    return str(body, "utf-8") if kind[:5] == b"text/" else bytes(body)


def value(body):
    kind, body = fields(body)
    return decode(bytes(kind), body)


def encode(v):
    """Returns type and body as fields."""
    kind, body = OCTETS, v
    if isinstance(v, memoryview):
        body = v.cast("B") if v.contiguous else v.tobytes()
    elif not isinstance(v, (bytes, bytearray)):
        if isinstance(v, getattr(sys.modules.get("numpy"), "ndarray", ())):
            return (*field(NUMPY), *npy(v))
        kind, body = b"", dumps(v).encode()
    return (*field(kind), *field(body))


def npy(a):
    import io

    import numpy

    if a.dtype.hasobject:
        raise TypeError("an array of objects can't travel: give it a type of numbers or text")
    fortran = a.flags.f_contiguous and not a.flags.c_contiguous
    head = io.BytesIO()
    form = numpy.lib.format.header_data_from_array_1_0(a)
    numpy.lib.format.write_array_header_1_0(head, {**form, "fortran_order": fortran})
    head = head.getbuffer()
    data = numpy.ascontiguousarray(a.T if fortran else a).reshape(-1).view(numpy.uint8).data
    return ((len(head) + len(data)).to_bytes(4, "little"), head, data)


def array(body):
    """Returns an array whose memory is body's."""
    import io

    import numpy

    if body.obj is ROOM:
        body = memoryview(bytearray(body))
    head = io.BytesIO(body[:4096])
    if numpy.lib.format.read_magic(head) != (1, 0):
        return numpy.load(io.BytesIO(body), allow_pickle=False)
    shape, fortran, dtype = numpy.lib.format.read_array_header_1_0(head)
    count = 1
    for n in shape:
        count *= n
    if dtype.hasobject or not dtype.itemsize or head.tell() + count * dtype.itemsize > len(body):
        raise ValueError("not an array of numbers or text")
    if not count:
        return numpy.empty(shape, dtype)
    a = numpy.frombuffer(body, dtype, count, head.tell())
    return a.reshape(shape[::-1]).T if fortran else a.reshape(shape)


# What a function is handed.


class Cloudburst:
    """The platform, for the time of one call. Threads of the call may share it."""

    __slots__ = ("_lock", "_info")
    Error, Permanent = Error, Permanent

    def __init__(self):
        self._lock, self._info = _thread.allocate_lock(), None

    def _ask(self, op, parts, then=None):
        with self._lock:
            if self is not current or forked:
                raise RuntimeError("only a call in hand can ask the platform: this one has ended, or is another process's")
            send((op, *parts))
            answer = receive()
            if answer[0] == 101:  # e
                kind, message = fields(answer[1:])
                raise Error(str(message, "utf-8", "replace"), str(kind, "utf-8"))
            return then(answer[1:]) if then and answer[0] == 111 else None  # o

    def _key(self, key, ns):
        return (*field((ns or "").encode()), *field(key.encode()))

    def get(self, key, ns=None):
        """Returns the value of a key, None if there is none."""
        return self._ask(b"g", self._key(key, ns), value)

    def put(self, key, value, ns=None):
        self._ask(b"p", self._key(key, ns) + encode(value))

    def delete(self, key, ns=None):
        self._ask(b"d", self._key(key, ns))

    def versions(self, key, ns=None):
        """Returns all values that no other has replaced, the one of get first."""

        def values(body):
            return [decode(bytes(kind), of) for kind, of in pairs(fields(body))]

        return self._ask(b"v", self._key(key, ns), values)

    def counter(self, key, ns=None):
        return Counter(self, key, ns, b"counter")

    def gcounter(self, key, ns=None):
        return Counter(self, key, ns, b"gcounter")

    def set(self, key, ns=None):
        return Set(self, key, ns, b"set")

    def orset(self, key, ns=None):
        return ORSet(self, key, ns, b"orset")

    def max(self, key, ns=None):
        return Max(self, key, ns, b"max")

    def min(self, key, ns=None):
        return Min(self, key, ns, b"min")

    def start(self, name, *args):
        """Starts a function or DAG, and returns what its result can be had from."""
        if len(args) == 1:
            packed = encode(args[0])
        else:
            packed = (*field(b""), *field(dumps(args).encode() if args else b""))
        run = self._ask(b"s", (*field(name.encode()), *packed), lambda b: str(next(fields(b)), "utf-8"))
        return Future(self, run)

    def call(self, name, *args):
        """Runs a function or DAG, and returns its result."""
        return self.start(name, *args).get()

    def info(self):
        """Returns the call's run, function, node, attempt, namespace and id."""
        if self._info is None:
            self._info = self._ask(b"i", (), lambda b: loads(str(next(fields(b)), "utf-8")))
        return dict(self._info)

    def getid(self):
        """Returns what others send messages to: the id of this execution."""
        return self.info()["id"]

    def send(self, to, message):
        """Sends a message to the execution with that id, which may begin later."""
        self._ask(b"m", (*field(to.encode()), *encode(message)))

    def recv(self, timeout=0):
        """Returns the messages that have come, as a list of (sender, message): all that
        are there, or the first that comes within timeout (seconds); else none."""

        def message(body):
            sender, kind, of = fields(body)
            return str(sender, "utf-8"), decode(bytes(kind), of)

        got, wait = [], int(timeout * 1000)
        while True:
            one = self._ask(b"c", field(str(0 if got else wait).encode()), message)
            if one is None:
                return got
            got.append(one)

    def log(self, *what):
        """Prints to the call's log."""
        print(*what, file=OUT, flush=True)


def pairs(of):
    return zip(of, of)


class Future:
    def __init__(self, of, run):
        self._of, self.run = of, run

    def get(self):
        """Returns the result once it is there; raises Error if the run has failed."""
        return self._of._ask(b"w", field(self.run.encode()), value)


class Lattice:
    __slots__ = ("_of", "_at")

    def __init__(self, of, key, ns, kind):
        self._of, self._at = of, of._key(key, ns) + field(kind)

    def _update(self, change):
        self._of._ask(b"u", self._at + field(dumps(change).encode()))

    def _read(self):
        return self._of._ask(b"r", self._at, lambda b: loads(str(next(fields(b)), "utf-8")))


class Counter(Lattice):
    def add(self, delta=1):
        self._update(delta)

    def value(self):
        return self._read()


class Set(Lattice):
    def add(self, *elements):
        self._update(elements)

    def elements(self):
        return self._read()


class ORSet(Set):
    def add(self, *elements):
        self._update({"add": elements})

    def remove(self, *elements):
        self._update({"remove": elements})


class Max(Lattice):
    def raise_to(self, v):
        self._update(v)

    def value(self):
        """Returns where it stands, None if it was never raised."""
        return self._read()


class Min(Lattice):
    def lower_to(self, v):
        self._update(v)

    def value(self):
        """Returns where it stands, None if it was never lowered."""
        return self._read()
