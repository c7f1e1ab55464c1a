"""Public functions with three or more parameters document every one, and none that does not exist."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ["schemas", "filters", "archive", "simulator", "cluster", "commands", "pipeline"]
MOST_WITHOUT = 2
"""A function with more parameters documents each one."""

Function = ast.FunctionDef | ast.AsyncFunctionDef


class Documented(NamedTuple):
    """A public function and what its docstring says of its parameters."""

    name: str
    parameters: list[str]
    described: set[str]
    helped: set[str]
    """Parameters of a command, described by the help text of their option."""


def described(text: str) -> set[str]:
    """The names in a docstring's section "Parameters" (numpydoc)."""
    section = re.search(r"^Parameters\n-+\n(.*?)(?=^\w[\w ]*\n-+\n|\Z)", text, flags=re.S | re.M)
    lines = re.findall(r"^(\S.*)$", section[1], flags=re.M) if section else []
    return {name.strip(" *") for line in lines for name in line.split(":")[0].split(",")}


def arguments(function: Function, *, bound: bool) -> list[ast.arg]:
    """The parameters, without `self` or `cls` of a bound one."""
    found = function.args
    several = [found.vararg] if found.vararg else []
    named = [found.kwarg] if found.kwarg else []
    return [*[*found.posonlyargs, *found.args][bound:], *several, *found.kwonlyargs, *named]


def is_static(function: Function) -> bool:
    return any(isinstance(d, ast.Name) and d.id == "staticmethod" for d in function.decorator_list)


def has_help(annotation: ast.AST | None) -> bool:
    """Whether this is `Annotated[…, typer.Option(…, help=…)]`, or a name that stands for such a type."""
    if isinstance(annotation, ast.Name):
        return annotation.id in options()
    calls = [node for node in ast.walk(annotation) if isinstance(node, ast.Call)] if annotation else []
    return any(keyword.arg == "help" for call in calls for keyword in call.keywords)


@cache
def options() -> set[str]:
    """Names of the options that several commands share."""
    trees = [ast.parse(path.read_text()) for path in (ROOT / "commands").rglob("*.py")]
    assigned = [node for tree in trees for node in tree.body if isinstance(node, ast.Assign)]
    return {
        target.id
        for node in assigned
        if isinstance(node.value, ast.Subscript) and has_help(node.value)
        for target in node.targets
        if isinstance(target, ast.Name)
    }


def functions_of(path: Path) -> Iterator[Documented]:
    """The public functions of a file and the public methods of its public classes."""
    yield from functions(ast.parse(path.read_text()).body, str(path.relative_to(ROOT)), in_class=False)


def functions(body: list[ast.stmt], within: str, *, in_class: bool) -> Iterator[Documented]:
    for node in body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield from functions(node.body, f"{within} {node.name}", in_class=True)
        elif isinstance(node, Function) and not node.name.startswith("_"):
            found = arguments(node, bound=in_class and not is_static(node))
            helped = {one.arg for one in found if has_help(one.annotation)}
            text = ast.get_docstring(node) or ""
            yield Documented(f"{within} {node.name}", [one.arg for one in found], described(text), helped)


@pytest.mark.parametrize("room", ROOMS)
def test_each_parameter_is_described(room: str) -> None:
    every = [one for path in sorted((ROOT / room).rglob("*.py")) for one in functions_of(path)]
    assert any(one.described for one in every), f"nothing is documented in {room}"
    for function in every:
        names = set(function.parameters)
        if len(names) > MOST_WITHOUT:
            missing = names - function.described - function.helped
            assert not missing, f"{function.name} does not document {sorted(missing)}"
        strange = function.described - names
        assert not strange, f"{function.name} has no parameter {sorted(strange)}"
