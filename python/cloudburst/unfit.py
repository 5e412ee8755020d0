"""Why a value isn't JSON: where in it, and what to do. Functions have the same on a worker."""

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
    if hasattr(v, "tolist"):  # of numpy
        v = v.tolist()
    if hasattr(v, "_place"):  # a reference, where there may be one
        return None
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
