"""The public names of `zads`: each is there, has a docstring, and says what each of its parameters is."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from dataclasses import is_dataclass
from typing import Any

import pytest

import zads

MOST_WITHOUT = 2
"""A function with more parameters documents each one."""


def parameters(function: Callable[..., Any]) -> list[str]:
    return [name for name in inspect.signature(function).parameters if name not in ("self", "cls")]


def documented(text: str) -> set[str]:
    """The names in a docstring's section "Parameters" (numpydoc)."""
    section = re.search(r"^Parameters\n-+\n(.*?)(?=^\w[\w ]*\n-+\n|\Z)", text, flags=re.S | re.M)
    lines = re.findall(r"^(\S.*)$", section[1], flags=re.M) if section else []
    return {name.strip(" *") for line in lines for name in line.split(":")[0].split(",")}


def functions() -> Iterator[tuple[str, Callable[..., Any], str]]:
    """Name, function, docstring: functions, methods, and what makes an object of a class."""
    for name in zads.__all__:
        one = getattr(zads, name)
        if inspect.isfunction(one):
            yield name, one, inspect.getdoc(one) or ""
        elif inspect.isclass(one):
            methods = {n: m for n, m in vars(one).items() if inspect.isfunction(m) and not n.startswith("_")}
            yield from ((f"{name}.{n}", m, inspect.getdoc(m) or "") for n, m in methods.items())
            if "__init__" in vars(one) and not is_dataclass(one):
                yield name, one.__init__, inspect.getdoc(one) or ""


EVERY = list(functions())


def test_every_public_name_is_there_and_says_what_it_is() -> None:
    for name in zads.__all__:
        assert inspect.getdoc(getattr(zads, name)), name
    assert len(EVERY) > 30


@pytest.mark.parametrize(("name", "function", "text"), EVERY, ids=[name for name, _, _ in EVERY])
def test_each_parameter_is_documented(name: str, function: Callable[..., Any], text: str) -> None:
    names = parameters(function)
    if len(names) > MOST_WITHOUT:
        assert set(names) - documented(text) == set()
    assert documented(text) <= set(names), "documents what is not there"
