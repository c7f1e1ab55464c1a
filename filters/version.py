"""A filter's code: its text, and the version that is made of it."""

import hashlib
import inspect
import textwrap
from collections.abc import Callable, Iterable, Iterator
from types import FunctionType
from typing import Any


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


def version(function: Any, about: Any, parents: Iterable[str]) -> str:
    """Twelve digits of SHA-256 over the code, what it calls, what it declares, and the parents' versions."""
    parts = [text(f) for f in called(function)] if isinstance(function, FunctionType) else [repr(function)]
    parts += [repr(about), *parents]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]
