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
import os
import sys
from time import monotonic_ns as now

from _cloudburst_values import ROOM, decode, dumps, encode, field, fields, loads, value

MOST = (64 << 20) + (4 << 10)  # as guest.MaxRequest
# A frame that is longer than ROOM begins PAD bytes into its memory: then an array of
# numpy begins at a multiple of 16.
PAD = 2
room = memoryview(ROOM)
OUT = sys.stdout
in_hand = None  # the Cloudburst of the call in hand
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


# What a function is handed.


class Cloudburst:
    """The platform, for the time of one call. Threads of the call may share it."""

    __slots__ = ("_lock", "_info")
    Error, Permanent = Error, Permanent

    def __init__(self):
        self._lock, self._info = _thread.allocate_lock(), None

    def _ask(self, op, parts, then=None):
        with self._lock:
            if self is not in_hand or forked:
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
        self._ask(b"p", self._key(key, ns) + encode(value, f"value of {key!r:.80}"))

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

    def zset(self, key, ns=None):
        return OrderedSet(self, key, ns, b"zset")

    def priority(self, key, ns=None):
        return Priority(self, key, ns, b"priority")

    def map(self, key, ns=None):
        """Returns the map of a key, whose fields are used as keys are."""
        return Map(self, key, ns)

    def start(self, name, *args, run_id=None):
        """Starts a function or DAG, and returns what its result can be had from. With a
        run_id that is there already nothing new is started: the result is that run's."""
        if len(args) == 1:
            packed = encode(args[0], "argument")
        else:
            packed = (*field(b""), *field(dumps(args, "arguments") if args else b""))
        named = field(run_id.encode()) if run_id else ()
        run = self._ask(b"s", (*field(name.encode()), *packed, *named), lambda b: str(next(fields(b)), "utf-8"))
        return Future(self, run)

    def call(self, name, *args, run_id=None):
        """Runs a function or DAG, and returns its result."""
        return self.start(name, *args, run_id=run_id).get()

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
        self._ask(b"m", (*field(to.encode()), *encode(message, "message")))

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


class Current:
    """The Cloudburst of the call in hand, for modules that aren't handed it."""

    __slots__ = ()

    def __getattr__(self, name):
        if in_hand is None and not name.startswith("__"):
            raise RuntimeError("there is no call in hand: cloudburst.current is the platform of a call, while that runs")
        return getattr(in_hand, name)


current = Current()


def pairs(of):
    return zip(of, of)


class Future:
    def __init__(self, of, run):
        self._of, self.run = of, run

    def get(self):
        """Returns the result once it is there; raises Error if the run has failed."""
        return self._of._ask(b"w", field(self.run.encode()), value)


class Map:
    """A key with fields, each of which holds a value of its own kind:

    user = cloudburst.map("user:1")
    user.put("name", "Ada")
    user.counter("likes").add(1)
    """

    __slots__ = ("_of", "_at")

    def __init__(self, of, key, ns=None):
        self._of, self._at = of, of._key(key, ns)

    def _ask(self, op, parts, then=None):
        request = b"".join((op, *parts))
        return self._of._ask(b"f", (*self._at, *field(request)), then)

    def _key(self, name, ns=None):
        return (*field(b""), *field(name.encode()))

    def fields(self):
        """Returns the names of the fields that have a value, sorted."""
        return self._of._ask(b"r", self._at + field(b"map"), lambda b: loads(str(next(fields(b)), "utf-8")))


for _name in "get put delete versions counter gcounter set orset max min zset priority map".split():
    setattr(Map, _name, getattr(Cloudburst, _name))


class Lattice:
    __slots__ = ("_of", "_at")

    def __init__(self, of, key, ns, kind):
        self._of, self._at = of, of._key(key, ns) + field(kind)

    def _update(self, change):
        self._of._ask(b"u", self._at + field(dumps(change, "change")))

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


class OrderedSet(Lattice):
    def put(self, member, score):
        self._update({"put": [{"member": member, "score": score}]})

    def remove(self, *members):
        self._update({"remove": members})

    def range(self, start=0, end=None):
        """Returns (member, score) from rank start (0 is the lowest score) to before end."""
        return [(m["member"], m["score"]) for m in self._read()[start:end]]

    def score(self, member):
        """Returns a member's score, None if it isn't there."""
        return dict(self.range()).get(member)


class Priority(Lattice):
    def put(self, priority, v):
        self._update({"priority": priority, "value": v})

    def get(self):
        """Returns the value with the lowest number, and the number; None if there is none."""
        held = self._read()
        return held and (held["value"], held["priority"])
