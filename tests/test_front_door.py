"""The public names of `zads`: each is there, and each and its methods have a docstring."""

import inspect
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import zads


def documented() -> Iterator[tuple[str, Any]]:
    """Each name, and each public method of a class, with what it names."""
    for name in zads.__all__:
        one = getattr(zads, name)
        yield name, one
        if inspect.isclass(one):
            yield from ((f"{name}.{n}", m) for n, m in vars(one).items() if is_public_method(n, m))


def is_public_method(name: str, one: Callable[..., Any]) -> bool:
    return inspect.isfunction(one) and not name.startswith("_")


@pytest.mark.parametrize(("name", "one"), list(documented()))
def test_every_public_name_says_what_it_is(name: str, one: Any) -> None:
    assert inspect.getdoc(one), name
