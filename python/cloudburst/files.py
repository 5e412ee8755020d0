"""The files that an image is made of, and whose modules are whose."""
import ast
import io
import os
import sys
import sysconfig
import zipfile

from . import errors

STDLIB = tuple(os.path.join(sysconfig.get_path(p), "") for p in ("stdlib", "platstdlib"))
WHEN = (1980, 1, 1, 0, 0, 0)  # the earliest a zip knows: the same files make the same image


def installed(module):
    """Says whether a module is Python's or was installed, so that a worker may be expected
    to have it; the others are the program's own."""
    top = module.partition(".")[0]
    if top == "__main__":
        return False
    if top in sys.builtin_module_names or top in getattr(sys, "stdlib_module_names", ()) or top == __package__:
        return True
    at = _place(top)
    if not at:
        return top in sys.modules  # there is no file to send
    return at.startswith(STDLIB) or not {"site-packages", "dist-packages"}.isdisjoint(at.split(os.sep))


def _place(top):
    """Returns the file or directory of a module that is imported."""
    module = sys.modules.get(top)
    file = getattr(module, "__file__", None)
    if file:
        package = hasattr(module, "__path__")
        return os.path.abspath(os.path.dirname(file) if package else file)
    return next((os.path.abspath(p) for p in getattr(module, "__path__", ())), None)


def along(modules):
    """Returns the files of modules of the program's own, and of those that they import, by
    their names below where they can be imported from."""
    found, seen, todo = {}, set(), sorted(modules)
    while todo:
        top = todo.pop()
        if top in seen or installed(top):
            continue
        seen.add(top)
        at = _place(top)
        if not at or not (os.path.isdir(at) or at.endswith(".py")):
            raise errors.BadArgument(f"module {top} is no Python file that could be sent along", hint="install it where the workers are")
        base = os.path.dirname(at)
        for path in _below(at) if os.path.isdir(at) else [at]:
            name = os.path.relpath(path, base).replace(os.sep, "/")
            with open(path, "rb") as f:
                found[name] = f.read()
            if name.endswith(".py"):
                todo += [m for m in _imports(found[name]) if m in sys.modules]
    return found


def _imports(text):
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from (a.name.partition(".")[0] for a in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]


def read(path):
    """Returns the image of a file, or of a directory: those files below it that aren't
    hidden, as "cloudburst fn deploy" takes them."""
    path = os.fspath(path)
    if "\n" in str(path):
        raise errors.BadArgument("code is a path, or bytes: this is a text of several lines", hint="deploy(name, text.encode())")
    try:
        if not os.path.isdir(path):
            with open(path, "rb") as f:
                return f.read()
        held = {}
        for file in _below(path):
            with open(file, "rb") as f:
                held[os.path.relpath(file, path).replace(os.sep, "/")] = f.read()
    except OSError as e:
        raise errors.BadArgument(f"{path} can't be read: {e.strerror}") from e
    if not held:
        raise errors.BadArgument(f"{path} holds no files")
    return pack(held)


def _below(directory):
    for at, below, names in os.walk(directory):
        below[:] = sorted(d for d in below if not d.startswith(".") and d != "__pycache__")
        yield from (os.path.join(at, n) for n in sorted(names) if not n.startswith(".") and os.path.isfile(os.path.join(at, n)))


def pack(held):
    """Returns files, by name, as a zip that is the same whenever they are."""
    to = io.BytesIO()
    with zipfile.ZipFile(to, "w") as z:
        for name in sorted(held):
            entry = zipfile.ZipInfo(name, WHEN)
            entry.compress_type, entry.create_system, entry.external_attr = zipfile.ZIP_DEFLATED, 3, 0o644 << 16
            z.writestr(entry, held[name])
    return to.getvalue()
