"""docs/security.md: its table of roles is the code's, and the tests that it names are there."""

from __future__ import annotations

import ast
import re

import pytest

from pipeline.access.roles import role_table
from tests.test_docs import ROOT

PAGE = (ROOT / "docs" / "security.md").read_text()
NAMED = sorted(set(re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", PAGE)))


def test_the_table_of_roles_is_the_codes() -> None:
    written = re.search(r"<!-- roles -->\n(.*)\n<!-- end of roles -->", PAGE, re.S)
    assert written is not None
    assert written[1] == role_table(), f"put this into the page:\n{role_table()}"


@pytest.mark.parametrize(("file", "test"), NAMED)
def test_the_named_test_exists(file: str, test: str) -> None:
    tree = ast.parse((ROOT / file).read_text())
    assert test in {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


def test_each_seat_names_a_test() -> None:
    rows = [row for row in PAGE.splitlines() if row.startswith(("| a ", "| the ", "| who"))]
    seats = [row for row in rows if row.count("|") == 5]
    assert len(seats) >= 23
    assert all("::" in row for row in seats)
