"""How values travel between a function and its worker: as JSON, as bytes, as numpy arrays."""
import json
import sys

OCTETS, NUMPY = b"application/octet-stream", b"application/vnd.numpy"
# Frames are read into ROOM. A longer frame gets memory of its own.
ROOM = bytearray(64 << 10)


class Unfit(TypeError, ValueError):
    """A value that can't travel. Its text names the place in the value, and a remedy."""


def plain(o):
    if hasattr(o, "tolist"):  # of numpy
        return o.tolist()
    raise TypeError(f"{type(o).__name__} isn't JSON")


encoder = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=plain).encode
loads = json.JSONDecoder().decode


def dumps(v, name):
    """Returns a value as JSON, in bytes. name is what an error calls the value."""
    try:
        return encoder(v).encode()
    except (TypeError, ValueError, RecursionError) as e:
        raise Unfit(fault(v, name, []) or f"{name}: {e}") from None


def field(b):
    return (len(b).to_bytes(4, "little"), b)


def fields(b):
    at = 0
    while at < len(b):
        end = at + 4 + int.from_bytes(b[at : at + 4], "little")
        yield b[at + 4 : end]
        at = end


def decode(kind, body):
    if not kind or kind == b"application/json":
        return loads(str(body, "utf-8")) if body else None
    if kind == NUMPY:
        return array(body)
    return str(body, "utf-8") if kind[:5] == b"text/" else bytes(body)


def value(body):
    kind, body = fields(body)
    return decode(bytes(kind), body)


def encode(v, name="value"):
    """Returns type and body as fields."""
    kind, body = OCTETS, v
    if isinstance(v, memoryview):
        body = v.cast("B") if v.contiguous else v.tobytes()
    elif not isinstance(v, (bytes, bytearray)):
        if isinstance(v, getattr(sys.modules.get("numpy"), "ndarray", ())):
            return (*field(NUMPY), *npy(v))
        kind, body = b"", dumps(v, name)
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


# What is wrong with a value.

REMEDIES = {
    "datetime date time Timestamp": "use .isoformat()",
    "timedelta": "use .total_seconds()",
    "set frozenset": "use sorted() or list()",
    "generator map filter zip range deque dict_keys dict_values dict_items": "use list()",
    "Decimal Fraction": "use str() or float()",
    "UUID PurePath": "use str()",
    "Enum": "use .value",
    "bytes bytearray memoryview": "bytes travel alone, not within other values; use base64",
    "coroutine": "await it",
    "Future": "use .get()",
    "DataFrame": "use .to_dict('records')",
}


def fault(v, at, above):
    """Returns where and why a value isn't JSON; None if no reason is found. above are the
    values that hold it."""
    if hasattr(v, "tolist"):
        v = v.tolist()
    if isinstance(v, float):
        return f"{at}: {v} isn't JSON; use None" if v - v != 0 else None
    if isinstance(v, str):
        return None if v.isascii() or sound(v) else f"{at}: the text has half a character (a lone surrogate); use errors='replace' where it is decoded"
    if v is None or isinstance(v, int):
        return None
    if not isinstance(v, (dict, list, tuple)):
        return f"{at}: {type(v).__name__} isn't JSON" + remedy(v)
    if any(v is a for a in above):
        return f"{at}: it holds itself"
    if len(above) > 500:
        return f"{at[:100]}…: it is nested more than 500 deep"
    items = v.items() if isinstance(v, dict) else enumerate(v)
    for k, item in items:
        if not isinstance(k, (str, int, float, type(None))):
            return f"{at}: a key is a {type(k).__name__} ({k!r:.50}); keys are texts"
        name = isinstance(k, str) and k.isidentifier()
        found = fault(item, f"{at}.{k}" if name else f"{at}[{k!r:.50}]", [*above, v])
        if found:
            return found
    return None


def sound(text):
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def remedy(v):
    bases = {c.__name__ for c in type(v).__mro__}
    for names, what in REMEDIES.items():
        if not bases.isdisjoint(names.split()):
            return "; " + what
    return "; use dataclasses.asdict()" if hasattr(v, "__dataclass_fields__") else ""
