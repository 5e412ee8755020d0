"""Finds a program's function, and calls it as its parameters ask for.

What can't work is an Argument, which a deployment is refused with."""
import os
import re
import sys

from _cloudburst_values import decode

CODE = os.path.realpath(sys.argv[1])


class Argument(Exception):
    """The argument, or the program, isn't what it should be."""


# Where it is.


def root(module):
    """Returns the directory that modules are looked for in: that of the program, or the one
    directory in it, as archives of a folder have it."""
    held = [n for n in os.listdir(CODE) if not n.startswith(".") and n != "__MACOSX"]
    inner = os.path.join(CODE, held[0]) if len(held) == 1 else ""
    return inner if os.path.isdir(inner) and module.partition(".")[0] != held[0] else CODE


def find(entry):
    """Returns the names of the module and the function, and the directory they are in."""
    module, _, function = entry.rpartition(":")
    function, at = function or "handler", root(module)
    if module:
        return module, function, at
    held = sorted(os.listdir(at))
    names = [f[:-3] for f in held if f.endswith(".py")]
    for name in names if len(names) == 1 else ("main", "__init__", function):
        if name in names:
            return name, function, at
    if not names:
        held = ", ".join(held[:5]) + (", …" if len(held) > 5 else "")
        raise Argument("there is no Python file in it" + (f"; it holds {held}" if held else ""))
    raise Argument(f"which of {', '.join(n + '.py' for n in names)} has {function}? Give the entry as module:function")


def load(entry, args):
    """Imports the program and returns its function."""
    module, function, at = find(entry)
    sys.argv = [module, *args]
    unreachable(at, module)
    sys.path[:0] = dict.fromkeys((at, CODE))
    file = os.path.join(at, module + ".py")
    if module == "__init__" or module in sys.modules and os.path.isfile(file):
        import importlib.util as util

        # Under a name of its own: an import of the other name still gets the other module.
        inside = [at] if module == "__init__" else None
        spec = util.spec_from_file_location("program", file, submodule_search_locations=inside)
        sys.modules["program"] = found = util.module_from_spec(spec)
        spec.loader.exec_module(found)
    else:
        __import__(module)
        found = sys.modules[module]
    has = [n for n, v in vars(found).items() if callable(v) and getattr(v, "__module__", "") == found.__name__]
    for name in function.split("."):
        found = getattr(found, name, None)
    if not callable(found):
        has = f"; it has {', '.join(has)}" if has else ""
        raise Argument(f"{module}.py has no function {function}{has}")
    return found


def modules(at):
    """Yields the modules at the top of a directory, with the file or directory of each."""
    for name in sorted(os.listdir(at)):
        if name.endswith(".py"):
            yield name[:-3], name
        elif os.path.isfile(os.path.join(at, name, "__init__.py")):
            yield name, name + "/"


def unreachable(at, entry):
    """Refuses modules that no import finds, because Python's or ours of that name is there
    already. The entry is loaded by its file."""
    for name, file in modules(at):
        if name in sys.modules and not (name == entry and file.endswith(".py")) and not name.startswith("__"):
            whose = "the platform" if "cloudburst" in name else "Python"
            raise Argument(f"{file} can't be imported: {whose} has a module {name}, which every import gets instead; rename it")


def advice(e):
    """Returns what to do about an exception of the program; "" if nothing is known."""
    at = next((p for p in sys.path if p.startswith(CODE)), None)
    if not at or not isinstance(e, (ImportError, AttributeError)):
        return ""
    if isinstance(e, ImportError):
        top = (e.name or "").partition(".")[0]
        if top == "cloudburst":
            return ": within a function, cloudburst is the platform itself and not the client library"
        foreign = [f for _, _, names in os.walk(CODE) for f in names if f.endswith((".so", ".pyd")) and not usable(f)]
        if foreign:
            return f": {foreign[0]} was built for another Python or system than this one ({version()}, {sys.platform})"
        if isinstance(e, ModuleNotFoundError) and top and top not in dict(modules(at)):
            return f": Python {version()} has none where the workers run; bring it along (pip install --target DIR {top}) and deploy the directory, or install it there"
    for name, file in modules(at):
        if name in getattr(sys, "stdlib_module_names", ()) and re.search(rf"(module|from) '{name}\b", str(e)):
            return f": {file} takes the place of Python's own module {name}; rename it"
    return ""


def usable(file):
    from importlib.machinery import EXTENSION_SUFFIXES

    tag = re.search(r"\.(cpython|cp|abi|pypy)[^.]*\.(so|pyd)$", file)
    return not tag or tag.group() in EXTENSION_SUFFIXES


def version():
    return "%d.%d" % sys.version_info[:2]


# How it is called.

# A lone parameter of one of these names is the platform, and not the argument.
PLATFORM = {"cloudburst", "cb", "lib", "platform", "cloud", "_"}
GENERATOR, COROUTINE, STREAM = 0x20, 0x80, 0x200  # flags of code, see inspect


def parameters(fn):
    """Returns the names of positional parameters, how many of them have no name for callers,
    the names of keyword parameters, and whether it takes *args and **kwargs."""
    plain = getattr(fn, "__wrapped__", fn)
    code = getattr(plain, "__code__", None)
    if code and not hasattr(plain, "__self__"):  # what inspect would find, without its import
        n, more = code.co_argcount, code.co_argcount + code.co_kwonlyargcount
        names = code.co_varnames
        return names[:n], code.co_posonlyargcount, names[n:more], bool(code.co_flags & 4), bool(code.co_flags & 8)
    import inspect

    try:
        of = inspect.signature(fn).parameters.values()
    except ValueError:  # of one in C, which doesn't say
        return ("cloudburst", "argument"), 2, (), False, False
    named = {}
    for p in of:
        named.setdefault(p.kind, []).append(p.name)
    only, plain = named.get(inspect.Parameter.POSITIONAL_ONLY, []), named.get(inspect.Parameter.POSITIONAL_OR_KEYWORD, [])
    return (
        (*only, *plain), len(only), tuple(named.get(inspect.Parameter.KEYWORD_ONLY, ())),
        inspect.Parameter.VAR_POSITIONAL in named, inspect.Parameter.VAR_KEYWORD in named,
    )  # fmt: skip


def check(fn):
    """Refuses a function whose result can never travel."""
    name, flags = getattr(fn, "__name__", "the function"), getattr(getattr(fn, "__code__", None), "co_flags", 0)
    if flags & (GENERATOR | STREAM):
        raise Argument(f"{name} yields, and a function has one result: return a list")
    if isinstance(fn, type) and not issubclass(fn, (dict, list, tuple, str, bytes, int, float)):
        raise Argument(f"{name} is a class, and its objects aren't results: name a function, or a method of an object ({name.lower()}.run)")
    if flags & COROUTINE:
        events()


def caller(fn):
    """Returns what calls fn with an argument as its parameters ask for."""
    check(fn)
    positional, only, keywords, args, more = parameters(fn)
    name = getattr(fn, "__name__", "the function")
    alone = len(positional) == 1 and not (args or more or keywords)
    if alone and positional[0] not in PLATFORM:
        return one_parameter(fn)
    leads, unnamed = bool(positional or args), positional[1:only]
    rest = (*positional[1:], *keywords)
    one, several = len(rest) == len(positional) - 1 == 1 and not args and not more, len(rest) > 1 or more or keywords
    named, none = frozenset(rest), not (rest or args or more)

    def call(lib, kind, body):
        lead = (lib,) if leads else ()
        if not kind and not body:
            return finish(fn(*lead))
        if none and bytes(body) == b"[]":
            return finish(fn(*lead))
        if none:
            raise Argument(f"{name} takes no argument" + (f", as its one parameter {positional[0]} is the platform" if alone else ""))
        v = read(kind, body)
        if one:
            return finish(fn(lib, v))
        if type(v) is list and (len(positional) > 1 or args):
            return finish(fn(*lead, *v))
        if several and type(v) is dict and (more or named.issuperset(v)):
            v = dict(v)
            return finish(fn(*lead, *taken(v, unnamed), **v))
        return finish(fn(*lead, v))

    return call


def one_parameter(fn):
    """A function of one parameter gets the argument. Called with none it gets the platform."""

    def call(lib, kind, body):
        return finish(fn(read(kind, body) if kind or body else lib))

    return call


def taken(v, names):
    """Takes the values of parameters without names from a dict, up to the first that is missing."""
    found = []
    for n in names:
        if n not in v:
            break
        found.append(v.pop(n))
    return found


def read(kind, body):
    try:
        return decode(kind, body)
    except Exception as e:
        raise Argument(f"can't be read as {str(kind, 'utf-8', 'replace') or 'JSON'}: {e}") from e


# Functions that are coroutines. Their loop stays, as globals do: a connection that one call
# has opened is there for the next one.

loop = None


def events():
    """Returns the event loop of this process."""
    global loop
    if loop is None:
        import asyncio

        # Until 3.9 what is made while a program is imported belongs to this loop.
        loop = asyncio.get_event_loop() if sys.version_info < (3, 10) else asyncio.new_event_loop()
        asyncio.set_event_loop(loop)
    return loop


def finish(result):
    """Returns a result, once it is there if it has to be awaited."""
    if not hasattr(type(result), "__await__"):
        return result

    async def awaited():
        return await result

    return events().run_until_complete(awaited())
