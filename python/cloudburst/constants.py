"""Values as source."""
import io
import pickle
import types

from . import files
from .errors import NoSource


def literal(v, inside=()):
    """Returns a value of plain types as source, None if it isn't one."""
    kind = type(v)
    if v is None or v is ... or kind in (bool, int, str, bytes):
        return repr(v)
    if kind is float:
        return repr(v) if v == v and abs(v) != float("inf") else f'float("{v}")'
    if kind not in (tuple, list, dict, set, frozenset) or id(v) in inside:
        return None
    inside = (*inside, id(v))
    if kind is dict:
        pairs = [(literal(k, inside), literal(e, inside)) for k, e in v.items()]
        return None if any(None in p for p in pairs) else "{" + ", ".join(f"{k}: {e}" for k, e in pairs) + "}"
    parts = [literal(e, inside) for e in v]
    if None in parts:
        return None
    if kind in (set, frozenset):
        return f"{kind.__name__}([{', '.join(sorted(parts))}])"  # in an order that doesn't change from process to process
    inner = ", ".join(parts)
    return f"[{inner}]" if kind is list else f"({inner},)" if len(parts) == 1 else f"({inner})"


def written(value, name):
    """Returns a value as source that makes the same again."""
    text = literal(value)
    return snapshot(value, name) if text is None else text


def snapshot(value, name):
    """Returns a value of types that are installed as source that unpickles it."""
    to = io.BytesIO()
    try:
        _Pickler(to, protocol=4).dump(value)
    except Exception as e:  # noqa: BLE001 - a type's own way of pickling may raise anything
        raise NoSource(f"it uses {name}, of type {type(value).__name__}: {e}") from e
    return f"__import__('pickle').loads({to.getvalue()!r})"


class _Pickler(pickle.Pickler):
    """Refuses what a worker couldn't import."""

    def reducer_override(self, obj):
        of = obj if isinstance(obj, (type, types.FunctionType)) else type(obj)
        if not files.installed(of.__module__):
            raise pickle.PicklingError(f"{of.__qualname__} is the program's own")
        return NotImplemented


def alike(a, b):
    """Says whether two values are written alike."""
    text = literal(a)
    return text is not None and text == literal(b)
