"""A function as what is deployed: as source, and if that can't be, pickled."""
import base64
import inspect
import os
import sys
import typing

from . import files
from .errors import BadArgument, NoSource
from .source import Writer

read = files.read


class Sent(typing.NamedTuple):
    """What is deployed of a function: the image, what of it is called, and a line about it."""

    data: bytes
    entry: str
    about: str


def of(func):
    """Returns what is deployed of a function, or of (class, argument, …)."""
    func = getattr(func, "__wrapped__", func) if getattr(type(func), "_stays", False) else func  # registered already
    cls = func[0] if isinstance(func, tuple) and func else None
    if isinstance(func, type):
        cls, func = func, (func,)
    if cls is not None and not isinstance(cls, type) or not (cls or callable(func)):
        raise BadArgument(f"{func!r} is no function", hint="register takes a function, a class with a method run, or (class, argument, …)")
    about = ((cls or func).__doc__ or "").strip() if cls or hasattr(func, "__code__") else ""
    about = about.partition("\n")[0]
    try:
        return _written(func, cls, about)
    except NoSource as why:
        return _pickled(func, cls, about, why)


def _written(func, cls, about):
    w = Writer()
    w.instance(cls, func[1:]) if cls else w.function(func)
    text = w.text(_origin(cls or func)).encode()
    if not w.along:
        return Sent(text, w.entry, about)
    held = files.along(w.along)
    if "main.py" in held:
        raise BadArgument("the program's own main.py would go along, whose name the function's file has", hint="rename it, or deploy the directory: cloud.deploy(name, directory)")
    return Sent(files.pack({**held, "main.py": text}), "main:" + w.entry, about)


def _origin(of):
    of = inspect.unwrap(of)
    code = getattr(of, "__code__", None)
    name = getattr(of, "__qualname__", "function").replace("<locals>.", "")
    return f"{name} of {os.path.basename(code.co_filename)}" if code else name


PICKLED = '''"""Sent by cloudburst.register, by cloudpickle {cloudpickle} of Python {python}."""
import base64
import sys

if sys.version_info[:2] != {version}:
    raise ImportError("it was pickled by Python {python}, and this worker has %d.%d: cloudpickle needs the same on both sides" % sys.version_info[:2])
try:
    import cloudpickle
except ImportError:
    raise ImportError("it was sent by cloudpickle, which this worker's Python hasn't: install cloudpickle there, or register a function that has source") from None

handler = cloudpickle.loads(base64.b64decode("{data}"))
'''


def _pickled(func, cls, about, why):
    """Returns a function as cloudpickle has it, which also takes objects and what has no
    source. The worker needs cloudpickle too, and the same minor version of Python."""
    try:
        import cloudpickle
    except ImportError:
        raise BadArgument(
            f"the function can't be sent as source: {why}",
            hint="pip install cloudpickle, here and where the workers are, and it is sent pickled; or write it to a file: cloud.deploy(name, path)",
        ) from None
    own = sys.modules.get(getattr(cls or func, "__module__", None) or "__main__")
    by_value = own is not None and own.__name__ != "__main__" and not files.installed(own.__name__)
    if by_value:
        cloudpickle.register_pickle_by_value(own)
    try:
        data = cloudpickle.dumps(cls(*func[1:]).run if cls else func)
    except Exception as e:  # noqa: BLE001 - what can't be pickled may raise anything
        raise BadArgument(f"the function can't be sent as source ({why}), nor by cloudpickle: {e}", hint="make what it needs in the function, or in a class: register((Class, argument), name)") from e
    finally:
        if by_value:
            cloudpickle.unregister_pickle_by_value(own)
    python = sys.version_info[:2]
    text = PICKLED.format(cloudpickle=cloudpickle.__version__, python="%d.%d" % python, version=python, data=str(base64.b64encode(data), "ascii"))
    return Sent(text.encode(), "handler", about)
