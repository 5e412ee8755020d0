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
    hidden, as "cloudburst fn deploy" takes them. A symbolic link is what it leads to, if that
    is within the directory."""
    path = os.fspath(path)
    if "\n" in str(path):
        raise errors.BadArgument("code is a path, or bytes: this is a text of several lines", hint="deploy(name, text.encode())")
    try:
        if not os.path.isdir(path):
            with open(path, "rb") as f:
                return f.read()
        held, executable = {}, set()
        for file in _below(path):
            name = os.path.relpath(file, path).replace(os.sep, "/")
            with open(file, "rb") as f:
                held[name] = f.read()
            if os.stat(file).st_mode & 0o111:
                executable.add(name)
    except OSError as e:
        raise errors.BadArgument(f"{e.filename or path} can't be read: {e.strerror}") from e
    if not held:
        raise errors.BadArgument(f"{path} holds no files")
    return pack(held, executable)


def _below(directory):
    """Yields the files of a directory that aren't hidden, through links that stay in it."""
    root = os.path.realpath(directory)
    todo = [(directory, ())]
    while todo:
        at, above = todo.pop()
        real = os.path.realpath(at)
        if real in above:
            raise errors.BadArgument(f"{at} is a symbolic link to a directory that holds it", hint="remove the link")
        for name in sorted(os.listdir(at)):
            path = os.path.join(at, name)
            if name.startswith(".") or name == "__pycache__":
                continue
            if os.path.islink(path):
                _inside(root, path)
            if os.path.isdir(path):
                todo.append((path, (*above, real)))
            elif os.path.isfile(path):
                yield path
            else:
                raise errors.BadArgument(f"{path} is neither a file nor a directory", hint="remove it")


def _inside(root, link):
    to = os.path.realpath(link)
    if not os.path.exists(to):
        raise errors.BadArgument(f"{link} is a symbolic link to {os.readlink(link)}, which isn't there", hint="remove it")
    if os.path.commonpath([root, to]) != root:
        raise errors.BadArgument(f"{link} is a symbolic link to {to}, outside of the directory", hint="put the file itself there")


def pack(held, executable=()):
    """Returns files, by name, as a zip that is the same whenever they are."""
    to = io.BytesIO()
    with zipfile.ZipFile(to, "w") as z:
        for name in sorted(held):
            entry = zipfile.ZipInfo(name, WHEN)
            mode = 0o755 if name in executable else 0o644
            entry.compress_type, entry.create_system, entry.external_attr = zipfile.ZIP_DEFLATED, 3, mode << 16
            z.writestr(entry, held[name])
    return to.getvalue()
