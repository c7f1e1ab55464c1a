"""How a filter travels between processes: by name where its module can be imported, else by value."""

import importlib
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import cloudpickle


class Travels(Protocol):
    """What is needed of a filter: the arguments that it is made from, and its version."""

    @property
    def function(self) -> Callable[..., Any]: ...
    @property
    def values(self) -> Mapping[str, Any]: ...
    @property
    def name(self) -> str: ...
    @property
    def version(self) -> str: ...
    @property
    def arguments(self) -> tuple[Any, ...]: ...


def reduce(f: Travels) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    """How to pickle a filter: by name where its module can be imported and holds it, else by value."""
    home = f.function.__module__
    if home.split(".")[0] == "filters" and isinstance(_there(home, f.name), type(f)):
        return _by_name, (home, f.name, dict(f.values))
    return _by_value, (type(f), cloudpickle.dumps(f.function), f.arguments, f.version)


def _there(module: str, name: str) -> Any:
    try:
        return getattr(importlib.import_module(module), name, None)
    except ImportError:
        return None


def _by_name(module: str, name: str, values: dict[str, Any]) -> Any:
    return getattr(importlib.import_module(module), name).using(**values)


def _by_value(kind: Callable[..., Any], code: bytes, arguments: tuple[Any, ...], version: str) -> Any:
    made = kind(cloudpickle.loads(code), *arguments)
    made.__dict__["version"] = version  # its source file need not be where it was sent
    return made
