"""Functions as source: a module of their own, with what they use and nothing else.

What a function uses is found without running it: the names that its code loads from its
module or from the functions around it. Each is written so that the worker has the same:

    a module, or a name of one that is installed     the import
    a module of the program's own                    the import, and its files go along
    a function or class of the program's own         its source, and what that uses
    a value of plain types                           as it is now, as a literal
    another value, of types that are installed       as it is now, pickled

What can't be written so is NoSource: then there is cloudpickle, see image.py.
"""
import __future__

import ast
import builtins
import inspect
import sys
import types

from . import files
from .constants import alike, written
from .errors import BadArgument, NoSource
from .syntax import defined, imports, is_ours, lambda_of, names, renamed, settle, text_of

MISSING = object()
GIVEN = {"__name__", "__file__", "__doc__", "__spec__", "__loader__", "__package__", "__builtins__", "__annotations__", "__qualname__", "__module__", "__class__"}


class Writer:
    """Writes the module of one function."""

    def __init__(self):
        self.entry = None
        self.along = set()  # modules of the program's own that it imports, by name
        self._imports, self._parts = set(), []
        self._has = {}  # what the module's names stand for
        self._trees, self._imported = {}, {}  # of files: what they hold, and their imports

    def function(self, func):
        """Writes a function as the entry."""
        if inspect.isgeneratorfunction(func) or inspect.isasyncgenfunction(func):
            raise BadArgument(f"{func.__name__} is a generator: what it yields has no form as a result", hint="return a list")
        plain = inspect.unwrap(func)
        if not isinstance(plain, types.FunctionType):
            raise NoSource(f"{func!r} is no function that was written in Python")
        self.entry = plain.__name__
        if self.entry == "<lambda>":
            self.entry = self._free("handler", _scope(plain))
        self._define(self.entry, func)

    def instance(self, cls, args):
        """Writes a class and an object of it, whose method run is the entry."""
        if not callable(getattr(cls, "run", None)):
            raise BadArgument(f"{cls.__name__} has no method run: def run(self, cloudburst, x)")
        self._need(cls.__name__, cls)
        self.entry = self._free("handler", ())
        given = [written(arg, "an argument of " + cls.__name__) for arg in args]
        self._parts.append(f"{self.entry} = {cls.__name__}({', '.join(given)}).run\n")

    def text(self, origin):
        """Returns the module; origin says where the function is from."""
        head = [f'"""Sent by cloudburst.register: {origin}."""', "from __future__ import annotations", ""]
        return "\n".join([*head, *sorted(self._imports), "", *self._parts])

    def _free(self, name, scope):
        while name in self._has or name in scope:
            name = "_" + name
        return name

    def _need(self, name, value, scope=None):
        """Has name stand for value."""
        if name in self._has:
            if self._has[name] is not value and not alike(self._has[name], value):
                raise NoSource(f"two different things that it uses are called {name}")
            return
        if getattr(type(value), "_stays", False):
            raise BadArgument(
                f"it uses {name}, {value!r}, which can't go to a worker",
                hint='a function is handed the platform as its first parameter: cloudburst.get("key"), cloudburst.call("name", …)',
            )
        imported = self._import(name, value, scope)
        if imported:
            self._has[name] = value
            self._imports.update(imported)
        elif isinstance(value, types.ModuleType):
            self._has[name] = value
            self._along(value.__name__)
            self._imports.add(renamed("import " + value.__name__, value.__name__, name))
        elif isinstance(value, type):
            self._define_class(name, value)
        elif isinstance(inspect.unwrap(value) if callable(value) else None, types.FunctionType):
            self._define(name, value)
        else:
            self._has[name] = value
            self._parts.append(f"{name} = {written(value, name)}\n")

    def _along(self, module):
        if not files.installed(module):
            self.along.add(module.partition(".")[0])

    def _import(self, name, value, scope):
        """Returns the import statements that make name stand for value: those that its module
        has, else one that comes to the same; none if it is the program's own, not a module."""
        found = []
        for text, module, of in self._statements(scope).get(name, ()):
            if of is value and (files.installed(module) or isinstance(value, types.ModuleType)):
                found.append(text)
                self._along(module)
        if found:
            return found
        module = value.__name__ if isinstance(value, types.ModuleType) else getattr(value, "__module__", None)
        if not isinstance(module, str) or not files.installed(module):
            return None
        if isinstance(value, types.ModuleType):
            return [renamed("import " + module, module, name)]
        attribute = getattr(value, "__qualname__", "")
        if attribute.isidentifier() and getattr(sys.modules.get(module), attribute, None) is value:
            return [renamed(f"from {module} import {attribute}", attribute, name)]
        return None

    def _statements(self, scope):
        """Returns a module's imports: by name, each one's text, module, and value."""
        module = scope and sys.modules.get(scope.get("__name__"))
        if module not in self._imported:
            try:
                tree = self._source(module, "module")[1]
            except NoSource:
                tree = ast.Module([], [])
            self._imported[module] = imports(tree)
        return self._imported[module]

    def _define(self, name, func):
        """Writes a function under a name, after what it uses."""
        plain = inspect.unwrap(func)
        lines, tree = self._source(plain, f"function {name}")
        if plain.__name__ == "<lambda>":
            node = lambda_of(plain, tree)
            text = ast.unparse(node) if settle(node, plain) else ast.get_source_segment("".join(lines), node)
            own, text = name, f"{name} = {text}\n" if "\n" not in text else f"{name} = (\n{text}\n)\n"
        else:
            node = defined(plain.__code__.co_firstlineno, plain.__name__, (ast.FunctionDef, ast.AsyncFunctionDef), tree)
            # Decorators that have left no trace don't count: registering is one of them.
            node.decorator_list = [d for d in node.decorator_list if func is not plain and not is_ours(d, _scope(plain))]
            if func is not plain and not node.decorator_list:
                raise NoSource(f"{name} is wrapped by something that its source doesn't show")
            own, text = node.name, ast.unparse(node) + "\n" if settle(node, plain) else text_of(node, lines)
        if own in self._has and self._has[own] is not func:
            raise NoSource(f"two different things that it uses are called {own}")
        self._has[own] = func
        self._uses(text, own, _scope(plain))
        self._parts.append(text)
        if own != name:
            self._has[name] = func
            self._parts.append(f"{name} = {own}\n")

    def _define_class(self, name, cls):
        """Writes a class under a name, after what it uses."""
        lines, tree = self._source(cls, f"class {name}")
        try:
            line = inspect.findsource(cls)[1] + 1
        except (OSError, TypeError) as e:
            raise NoSource(f"there is no source of class {name}: {e}") from e
        text = text_of(defined(line, cls.__name__, ast.ClassDef, tree), lines)
        if cls.__name__ in self._has:
            raise NoSource(f"two different things that it uses are called {cls.__name__}")
        self._has[cls.__name__] = cls
        self._uses(text, cls.__name__, vars(sys.modules[cls.__module__]), "<locals>" in cls.__qualname__)
        self._parts.append(text)
        if cls.__name__ != name:
            self._has[name] = cls
            self._parts.append(f"{name} = {cls.__name__}\n")

    def _uses(self, text, own, scope, nested=False):
        """Writes what a piece of source uses."""
        try:
            code = compile(text, "<source>", "exec", __future__.annotations.compiler_flag, True)
        except SyntaxError as e:
            raise NoSource(f"{own} can't stand by itself: {e.msg}") from e
        loaded, stored = names(code)
        for name in sorted(loaded - GIVEN):
            value = scope.get(name, MISSING)
            if name == own and (value is MISSING or getattr(type(value), "_stays", False)):
                continue  # it calls itself, and has been registered before or is about to be
            if value is not MISSING:
                self._need(name, value, scope)
            elif not hasattr(builtins, name) and name not in stored and name not in self._has:
                if nested:
                    raise NoSource(f"class {own} is made in a function, and uses its {name}")
                raise BadArgument(f"{own} uses {name}, which isn't defined", hint=f"define {name} above, or import it in the function")

    def _source(self, of, what):
        """Returns the lines of the file that something was defined in, and its tree."""
        try:
            lines = inspect.findsource(of)[0]
            file = inspect.getsourcefile(of) or inspect.getfile(of)
        except (OSError, TypeError) as e:
            raise NoSource(f"there is no source of {what}: {e}") from e
        return lines, self._tree(file, lines)

    def _tree(self, file, lines):
        if file not in self._trees:
            try:
                self._trees[file] = ast.parse("".join(lines))
            except SyntaxError as e:
                raise NoSource(f"{file} can't be read: {e.msg}") from e
        return self._trees[file]


def _scope(func):
    """Returns what the names of a function stand for that aren't its own."""
    scope = dict(func.__globals__)
    for name, cell in zip(func.__code__.co_freevars, func.__closure__ or ()):
        try:
            scope[name] = cell.cell_contents
        except ValueError:
            scope.pop(name, None)  # not set yet
    return scope
