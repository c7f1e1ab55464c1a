"""A filter's code as a thing: its text, its version, and how it travels between processes."""

import hashlib
import importlib
import inspect
import textwrap
from collections.abc import Callable, Iterable, Iterator
from types import FunctionType
from typing import TYPE_CHECKING, Any

import cloudpickle

if TYPE_CHECKING:
    from filters.contract import Filter


def doc(function: Callable[..., Any]) -> str:
    """The function's docstring without indentation; "" without one."""
    return inspect.getdoc(function) or ""


def text(function: FunctionType) -> str:
    """The source of a function; its byte code and constants where there is no source (typed at a prompt)."""
    try:
        return textwrap.dedent(inspect.getsource(function))
    except (OSError, TypeError):
        code = function.__code__
        constants = [c for c in code.co_consts if not inspect.iscode(c)]
        return f"{code.co_code.hex()} {constants!r} {code.co_names!r}"


def called(function: FunctionType, seen: set[FunctionType] | None = None) -> Iterator[FunctionType]:
    """The function, and the functions of its own top-level package that it names, each once."""
    seen = set() if seen is None else seen
    if function in seen:
        return
    seen.add(function)
    yield function
    home = function.__module__.split(".")[0]
    for name in function.__code__.co_names:
        other = function.__globals__.get(name)
        if isinstance(other, FunctionType) and other.__module__.split(".")[0] == home:
            yield from called(other, seen)


def version(function: Any, about: Any, parents: Iterable["Filter"]) -> str:
    """Twelve hex digits of SHA-256 over the code, what it calls in its package, and what it declares."""
    parts = [text(f) for f in called(function)] if isinstance(function, FunctionType) else [repr(function)]
    parts += [repr(about), *(parent.version for parent in parents)]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]


def reduce(f: "Filter") -> tuple[Callable[..., "Filter"], tuple[Any, ...]]:
    """How to pickle a filter: by name where its module can be imported and holds it, else by value."""
    home = f.function.__module__
    if home.split(".")[0] == "filters" and isinstance(_found(home, f.name), type(f)):
        return _by_name, (home, f.name, dict(f.values))
    rest = (f.survey, f.declared, f.scope, dict(f.parameters), dict(f.values), f.extends)
    return _by_value, (cloudpickle.dumps(f.function), rest, f.version)


def _found(module: str, name: str) -> Any:
    try:
        return getattr(importlib.import_module(module), name, None)
    except ImportError:
        return None


def _by_name(module: str, name: str, values: dict[str, Any]) -> "Filter":
    found: Filter = getattr(importlib.import_module(module), name)
    return found.using(**values)


def _by_value(code: bytes, rest: tuple[Any, ...], made_version: str) -> "Filter":
    from filters.contract import Filter

    made = Filter(cloudpickle.loads(code), *rest)
    made.__dict__["version"] = made_version  # its source file need not be where it was sent
    return made
