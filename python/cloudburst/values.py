"""How values and arguments travel: JSON, bytes, and numpy arrays where numpy is there."""
import datetime
import io
import json
import sys
import urllib.parse

from . import unfit
from .errors import BadArgument, Error

JSON, OCTETS, NUMPY = "application/json", "application/octet-stream", "application/vnd.numpy"


class Ref:
    """Stands for a key of the state as an argument: the worker looks it up in its cache
    right before the function runs."""

    __slots__ = ("key", "ns")

    def __init__(self, key, ns=None):
        self.key, self.ns = key, ns

    def __repr__(self):
        return f"ref({self.key!r})" if self.ns is None else f"ref({self.key!r}, {self.ns!r})"

    def __eq__(self, other):
        return isinstance(other, Ref) and (self.key, self.ns) == (other.key, other.ns)

    def __hash__(self):
        return hash((self.key, self.ns))

    def _place(self):
        return {"$ref": self.key} if self.ns is None else {"$ref": self.key, "ns": self.ns}


def ref(key, ns=None):
    """Returns what stands for a key as an argument of a call, in the namespace ns or the
    function's own."""
    return Ref(key, ns)


def pack(args):
    """Returns the body and the type of a call with these arguments: none is an empty body,
    one travels as it is, several as a JSON array."""
    if not args:
        return b"", None
    if len(args) == 1:
        return encode(args[0], references=True)
    for n, arg in enumerate(args, 1):
        if binary(arg):
            raise BadArgument(
                f"argument {n} is {_a(arg)}, which can only travel as the only argument",
                hint="store it, cloud.put(key, value), and pass cloudburst.ref(key); several of the kind can't be passed in one call",
            )
    return encode(list(args), references=True)


def encode(v, references=False):
    """Returns the body and the type of a value. With references, those that stand where a
    worker looks for them are written as such; anywhere else they are an error."""
    if isinstance(v, (bytes, bytearray, memoryview)):
        return bytes(v), OCTETS
    if _is_array(v):
        return _npy(v), NUMPY
    return dumps(_placed(v) if references else v, "argument" if references else "value"), JSON


def binary(v):
    """Says whether a value travels otherwise than as JSON."""
    return isinstance(v, (bytes, bytearray, memoryview)) or _is_array(v)


def dumps(v, name="value"):
    """Returns a value as JSON. name is what an error calls it."""
    try:
        return json.dumps(v, ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=_plain).encode()
    except BadArgument:
        raise
    except (TypeError, ValueError, RecursionError) as e:
        raise BadArgument(unfit.fault(v, name, []) or f"{name} can't be written as JSON: {e}") from e


def decode(kind, body):
    """Returns the value of a body of a type."""
    media = (kind or JSON).partition(";")[0].strip().lower()
    if media == JSON:
        return json.loads(body) if body else None
    if media == NUMPY:
        try:
            import numpy
        except ImportError:
            raise Error("it is a numpy array", hint="install numpy to read it") from None
        return numpy.load(io.BytesIO(body), allow_pickle=False)
    return str(body, "utf-8") if media.startswith("text/") else bytes(body)


def _placed(v):
    """Writes references where a worker looks for them: the argument itself, the elements of
    a list, the fields of an object."""
    if hasattr(v, "_place"):
        return v._place()
    if isinstance(v, (list, tuple)):
        return [e._place() if hasattr(e, "_place") else e for e in v]
    if isinstance(v, dict):
        return {k: e._place() if hasattr(e, "_place") else e for k, e in v.items()}
    return v


def _plain(v):
    """Returns in terms of JSON what JSON itself doesn't know."""
    if hasattr(v, "_place"):
        raise BadArgument(f"{v!r} stands too deep: a worker looks for references in the arguments, and in the list or dict that is the only argument, no deeper")
    if binary(v):
        raise BadArgument(f"there is {_a(v)} in a list or dict: it can only travel as the only argument", hint="pass .tolist() of an array, or store it and pass cloudburst.ref(key)")
    if isinstance(v, getattr(sys.modules.get("numpy"), "generic", ())):
        return v.item()
    raise TypeError(f"{type(v).__name__} has no form in JSON")


def _a(v):
    return "a numpy array" if _is_array(v) else type(v).__name__


def _is_array(v):
    return isinstance(v, getattr(sys.modules.get("numpy"), "ndarray", ()))


def _npy(a):
    import numpy

    if a.dtype.hasobject:
        raise BadArgument("an array of objects can't travel: give it a type of numbers or text")
    to = io.BytesIO()
    numpy.save(to, a, allow_pickle=False)
    return to.getvalue()


def duration(v):
    """Returns seconds, or a timedelta, as the gateway reads a duration. A text is one already."""
    if isinstance(v, datetime.timedelta):
        v = v.total_seconds()
    if isinstance(v, (int, float)) and not isinstance(v, bool):
        return f"{v:.9f}".rstrip("0").rstrip(".") + "s"
    return v


def escape(segment):
    """Returns a text as one segment of a path, whatever is in it."""
    if segment in (".", ".."):  # else they would be steps in the path
        return segment.replace(".", "%2E")
    return urllib.parse.quote(segment, safe="")
