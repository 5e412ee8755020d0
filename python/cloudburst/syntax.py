"""Definitions in the files that they are in, and what they use."""
import ast
import copy
import dis
import sys
import types

from .constants import literal
from .errors import NoSource

LOADS = {"LOAD_NAME", "LOAD_GLOBAL", "LOAD_FROM_DICT_OR_GLOBALS"}
STORES = {"STORE_NAME", "STORE_GLOBAL", "DELETE_GLOBAL"}


def defined(line, name, kinds, tree):
    """Returns a copy of the definition that begins at a line."""
    for node in ast.walk(tree):
        if isinstance(node, kinds) and node.name == name and _first(node) == line:
            return copy.deepcopy(node)
    raise NoSource(f"{name} is not at line {line} of its file: it has changed since it was imported")


def _first(node):
    return min([node.lineno, *(d.lineno for d in node.decorator_list)])


def lambda_of(func, tree):
    """Returns a copy of a lambda's definition: the one at its line, and of several the one that
    compiles to the same. Those may differ in defaults, which are for settle."""
    line = func.__code__.co_firstlineno
    at = [n for n in ast.walk(tree) if isinstance(n, ast.Lambda) and n.lineno == line]
    if len(at) > 1:
        at = [n for n in at if _same(func.__code__, _compiled(n, func.__code__.co_freevars))]
    if not at:
        raise NoSource(f"there is no such lambda at line {line} of its file: it has changed since it was imported")
    defaults = [*(func.__defaults__ or ()), *(func.__kwdefaults__ or {}).values()]
    if len({ast.dump(n.args) for n in at}) > 1 and any(literal(d) is None for d in defaults):
        raise NoSource(f"line {line} has several lambdas that look alike: put them on lines of their own")
    return copy.deepcopy(at[0])


def _compiled(node, free):
    around = ast.parse(f"def _({', '.join(free)}):\n return 0")
    around.body[0].body[0].value = node
    code = compile(around, "<lambda>", "exec", dont_inherit=True)
    for _ in range(2):
        code = next(c for c in code.co_consts if isinstance(c, types.CodeType))
    return code


def _same(a, b):
    if isinstance(a, types.CodeType) and isinstance(b, types.CodeType):
        parts = [(c.co_code, c.co_names, c.co_varnames, c.co_freevars, c.co_argcount, c.co_kwonlyargcount) for c in (a, b)]
        return parts[0] == parts[1] and len(a.co_consts) == len(b.co_consts) and all(map(_same, a.co_consts, b.co_consts))
    return type(a) is type(b) and (a == b or isinstance(a, str) and "<lambda>" in a)  # until Python 3.10 they hold where code is


def text_of(node, lines):
    """Returns a definition as it was written, if it stands at the margin."""
    if node.col_offset:
        return ast.unparse(node) + "\n"
    written = "".join(lines[node.lineno - 1 : node.end_lineno])
    return "".join(f"@{ast.unparse(d)}\n" for d in node.decorator_list) + written.rstrip("\n") + "\n"


def settle(node, func):
    """Has the defaults of parameters be what they were when the function was made, as in
    lambda _, x, i=i: x + i. Says whether that has changed anything."""
    args, changed = node.args, False
    values = [*(func.__defaults__ or ()), *((func.__kwdefaults__ or {}).get(a.arg) for a, d in zip(args.kwonlyargs, args.kw_defaults) if d)]
    nodes = [*args.defaults, *(d for d in args.kw_defaults if d)]
    for default, value in zip(nodes, values):
        text = literal(value)
        if text is None or ast.unparse(default) == text:
            continue
        now = ast.parse(text, mode="eval").body
        for of in (args.defaults, args.kw_defaults):
            of[:] = [now if d is default else d for d in of]
        changed = True
    return changed


def is_ours(decorator, scope):
    """Says whether a decorator is the client's, which has no business on a worker."""
    last = decorator.func if isinstance(decorator, ast.Call) else decorator
    while isinstance(decorator, (ast.Call, ast.Attribute)):
        decorator = decorator.func if isinstance(decorator, ast.Call) else decorator.value
    if not isinstance(decorator, ast.Name):
        return False
    if decorator.id not in scope:  # a local of the function around, which isn't to be seen from here
        return isinstance(last, ast.Attribute) and last.attr == "function"
    return getattr(type(scope[decorator.id]), "_stays", False)


def names(code):
    """Returns the names that code loads from its module, and those it sets there."""
    loaded, stored = set(), set()
    for i in dis.get_instructions(code):
        if i.opname in LOADS:
            loaded.add(i.argval)
        elif i.opname in STORES:
            stored.add(i.argval)
    loaded -= {i.argval for i in dis.get_instructions(code) if i.opname == "STORE_NAME"}  # a class's own, or what the piece defines
    for const in code.co_consts:
        if isinstance(const, types.CodeType):
            more = names(const)
            loaded |= more[0]
            stored |= more[1]
    return loaded, stored


def imports(tree):
    found = {}

    def add(bound, text, module, value):
        found.setdefault(bound, []).append((text, module, value))

    for node in _at_module_level(tree):
        for a in node.names if isinstance(node, (ast.Import, ast.ImportFrom)) else ():
            bound = a.asname or a.name
            if isinstance(node, ast.Import):
                top = a.name.partition(".")[0]
                add(a.asname or top, renamed("import " + a.name, a.name, bound), a.name, sys.modules.get(a.name if a.asname else top))
            elif not node.level and node.module != "__future__":
                value = getattr(sys.modules.get(node.module), a.name, sys.modules.get(f"{node.module}.{a.name}"))
                add(bound, renamed(f"from {node.module} import {a.name}", a.name, bound), node.module, value)
    return found


def _at_module_level(tree):
    """Yields the statements that a module runs itself, also those below if and try."""
    for node in ast.iter_child_nodes(tree):
        yield node
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.expr)):
            yield from _at_module_level(node)


def renamed(text, name, bound):
    return text if name == bound else f"{text} as {bound}"
