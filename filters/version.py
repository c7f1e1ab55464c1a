"""A filter's version: twelve digits that change when, and only when, its verdict might.

Of a filter in a file: the whole text of its module and of every module that it imports from its own package
and from the rooms `schemas` and `filters` (how a column is made is part of a verdict), without comments and
docstrings; and the values of the module's constants, which may have been read from a file. Of one typed at a
prompt: its code and that of everything it names. Catalogues and models say their own version, as
`__zads_version__`.
"""

import ast
import hashlib
import importlib.util
import inspect
import io
import sys
import textwrap
import tokenize
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

import numpy as np
import pandas as pd

_ROOMS = ("schemas", "filters")
"""The project's rooms that a verdict can depend on: imports point to them, not out of them."""

_ENGINE = ("filters.contract", "filters.history")
_DIGITS = 12
_PLAIN = (bool, int, float, complex, str, bytes, type(None))


def doc(function: Callable[..., Any]) -> str:
    """The function's docstring without indentation; "" without one."""
    return inspect.getdoc(function) or ""


def version(function: Any, about: Any, parents: Iterable[str], rooms: Iterable[str] = ()) -> str:
    """Twelve digits of SHA-256 over all code and data that the verdict depends on.

    Parameters
    ----------
    function : callable
        What returns the cuts.
    about : object
        What the filter declares; its `repr` counts.
    parents : iterable of str
        Versions of the filters that it extends.
    rooms : iterable of str
        Modules of the surveys whose alerts it is for: they say how columns are made.

    Returns
    -------
    str
        Hexadecimal digits, the same in every process and on every version of Python.
    """
    home = sys.modules.get(getattr(function, "__module__", ""))
    if home is None or _file(home) is None:
        code = list(_named(function))
    else:
        code = [f"{name}\n{_essence(path, _stamp(path))}" for name, path in _modules(home, rooms)]
        code += [] if isinstance(function, FunctionType) else [repr(function)]
        code += [] if home.__name__.split(".")[0] in _ROOMS else list(_constants(vars(home)))
    whole = "\n".join([*code, repr(about), *parents])
    return hashlib.sha256(whole.encode()).hexdigest()[:_DIGITS]


# Modules


def _modules(home: ModuleType, rooms: Iterable[str]) -> list[tuple[str, Path]]:
    """The module and those that it imports from its own package or our rooms: names and files, in order.

    The module itself is called "": the name of a user's file is no part of its version.
    """
    own = home.__name__.split(".")[0]
    start = _file(home)
    assert start is not None
    found: dict[str, Path] = {"": start}
    waiting = [*_imports(start, home.__package__ or "", own), *_ENGINE, *rooms]
    while waiting:
        name = waiting.pop()
        if name in found or name == home.__name__:
            continue
        path = _origin(name)
        if path is not None:
            found[name] = path
            waiting += _imports(path, name if path.name == "__init__.py" else name.rpartition(".")[0], own)
    return sorted(found.items())


def _imports(path: Path, package: str, own: str) -> list[str]:
    """Names of modules of ours that a file imports, anywhere in it."""
    names = []
    for level, module, name in _statements(path, _stamp(path)):
        above = package.split(".")[: len(package.split(".")) - level + 1] if level else []
        base = ".".join([*above, *([module] if module else [])])
        if base.split(".")[0] in (*_ROOMS, own):
            names.append(_bound(base, name) if name else base)
    return names


@lru_cache(maxsize=1024)
def _statements(path: Path, _changed: tuple[int, int]) -> list[tuple[int, str, str]]:
    """The import statements of a file: level, module, name ("" for `import module`)."""
    found: list[tuple[int, str, str]] = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [(0, alias.name, "") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found += [(node.level, node.module or "", alias.name) for alias in node.names]
    return found


def _bound(base: str, name: str) -> str:
    """The module that `from base import name` takes it from: a package may only pass a name on."""
    if _origin(f"{base}.{name}") is not None:
        return f"{base}.{name}"
    path = _origin(base) if base.split(".")[0] in _ROOMS else None
    if path is None or path.name != "__init__.py":
        return base
    passed_on = (module for _, module, given in _statements(path, _stamp(path)) if given == name and module)
    return next(passed_on, base)


@lru_cache(maxsize=1024)
def _origin(name: str) -> Path | None:
    """The file of a module, imported or not; None where it has none."""
    module = sys.modules.get(name)
    if module is not None:
        return _file(module)
    spec = _spec(name)
    return Path(spec.origin) if spec is not None and spec.origin and spec.origin.endswith(".py") else None


@lru_cache(maxsize=1024)
def _spec(name: str) -> ModuleSpec | None:
    """Where a module is. Nothing is imported, as `importlib.util.find_spec` does with the packages above it:
    every worker would load what catalogues need only to tell the version of a filter without one."""
    package = name.rpartition(".")[0]
    try:
        if not package:
            return importlib.util.find_spec(name)
        above = _spec(package)
        places = above.submodule_search_locations if above is not None else None
        return None if places is None else PathFinder.find_spec(name, list(places))
    except (ImportError, ValueError, AttributeError):
        return None


def _file(module: ModuleType) -> Path | None:
    where = getattr(module, "__file__", None)
    return Path(where) if where and where.endswith(".py") and Path(where).is_file() else None


def _stamp(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_mtime_ns, found.st_size


@lru_cache(maxsize=1024)
def _essence(path: Path, _changed: tuple[int, int]) -> str:
    return essence(path.read_text())


def essence(text: str) -> str:
    """Python source without what cannot change a verdict: comments, docstrings, blank lines."""
    lines = text.splitlines(keepends=True)
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            row, column = token.start
            lines[row - 1] = lines[row - 1][:column].rstrip() + "\n"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            _blank_docstring(node.body, lines)
    return "\n".join(line.rstrip() for line in lines if line.strip())


def _blank_docstring(body: list[ast.stmt], lines: list[str]) -> None:
    first = body[0] if body else None
    if (
        isinstance(first, ast.Expr)
        and isinstance(first.value, ast.Constant)
        and isinstance(first.value.value, str)
        and first.end_lineno is not None
        and not lines[first.lineno - 1][: first.col_offset].strip()
    ):
        lines[first.lineno - 1 : first.end_lineno] = [""] * (first.end_lineno - first.lineno + 1)


# Values


def _constants(names: Mapping[str, Any]) -> Iterator[str]:
    """The values of a module's constants: they may come from a file beside it."""
    for name in sorted(names):
        if not name.startswith("__") and (value := plainly(names[name])) is not None:
            yield f"{name} = {value}"


def plainly(value: Any) -> str | None:
    """A value as text, equal for equal values; None for what is no data (a function, a module, a lock)."""
    if hasattr(value, "__zads_version__") and not isinstance(value, type):
        return f"{type(value).__name__} {value.__zads_version__}"
    if isinstance(value, _PLAIN):
        return repr(value)
    if isinstance(value, Mapping):
        return _several("{}", [f"{k!r}: {plainly(v)}" for k, v in value.items() if plainly(v) is not None])
    if isinstance(value, (list, tuple)):
        return _several("[]", [str(plainly(v)) for v in value])
    if isinstance(value, (set, frozenset)):
        return _several("{}", sorted(str(plainly(v)) for v in value))
    if isinstance(value, np.generic):
        return repr(value.item())
    if isinstance(value, np.ndarray) and value.dtype != object:
        told = hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()
        return f"{value.dtype.str} {value.shape} {told}"
    if isinstance(value, (pd.Series, pd.DataFrame, pd.Index)):
        return str(pd.util.hash_pandas_object(value).to_numpy().tobytes().hex())
    return None


def _several(brackets: str, parts: list[str]) -> str:
    return brackets[0] + ", ".join(parts) + brackets[1]


# Code without a file


def text(code: Any) -> str:
    """The source of a function or class; byte code and constants of one typed at a prompt."""
    try:
        return essence(textwrap.dedent(inspect.getsource(code)))
    except (OSError, TypeError, SyntaxError, tokenize.TokenError):
        return "\n".join(_byte_code(code.__code__)) if isinstance(code, FunctionType) else repr(code)


def _byte_code(code: CodeType) -> Iterator[str]:
    constants = [c for c in code.co_consts if not inspect.iscode(c)]
    yield f"{code.co_code.hex()} {constants!r} {code.co_names!r}"
    for inner in code.co_consts:
        if inspect.iscode(inner):
            yield from _byte_code(inner)


def _named(start: Any) -> Iterator[str]:
    """The code of a function and of everything that it names in its module, lazy cuts and classes too."""
    seen: set[int] = set()
    waiting = [start]
    while waiting:
        one = waiting.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        if isinstance(one, FunctionType):
            yield text(one)
            waiting += [value for _, value in sorted(_reached(one).items())]
        elif isinstance(one, type):
            if one.__module__ == getattr(start, "__module__", None):
                yield text(one)
                waiting += [
                    value for _, value in sorted(vars(one).items()) if isinstance(value, FunctionType)
                ]
        elif (value := plainly(one)) is not None:
            yield value


def _reached(function: FunctionType) -> dict[str, Any]:
    """Globals, captured variables and defaults by name, where they are ours or plain data."""
    names: set[str] = set()
    codes = [function.__code__]
    while codes:
        code = codes.pop()
        names.update(code.co_names)
        codes += [c for c in code.co_consts if inspect.iscode(c)]
    reached = {name: function.__globals__[name] for name in names if name in function.__globals__}
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            reached[name] = cell.cell_contents
        except ValueError:  # not filled yet
            continue
    reached |= {f"default {n}": value for n, value in enumerate(function.__defaults__ or ())}
    home = function.__module__
    return {n: v for n, v in reached.items() if not callable(v) or getattr(v, "__module__", None) == home}
