"""docs/expressions.md: its code runs, and each example in its tables is an expression."""

from __future__ import annotations

import re
from typing import Any

import pytest

from filters import expression
from filters.expressions.meaning import AGGREGATES, FUNCTIONS
from filters.features import FEATURES
from tests.test_docs import ROOT, blocks

PAGE = (ROOT / "docs" / "expressions.md").read_text()
EXAMPLES = [
    *re.findall(r"`([^`|…]+)`", PAGE[PAGE.index("| comparisons") : PAGE.index("| ranges")]),
    *re.findall(r"`([a-z]+\(prv_candidates[^`…]+)`", PAGE),
]
WORDS = {"and", "or", "not"}


def test_the_code_of_the_page(capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, Any] = {}
    first, *others = blocks(PAGE, "python")
    exec(first, names)
    shown = capsys.readouterr().out
    assert "count(prv_candidates.magpsf < 19) >= 2" in shown
    assert int(shown.split()[-1]) > 0
    for block in others:
        exec(block, names)
    assert names["brightening"].passes(names["night"]).any()
    assert names["deep"].gives == {"excess": "mag", "near": "pix", "rate": "mag/d"}


@pytest.mark.parametrize("text", [text for text in EXAMPLES if text not in WORDS])
def test_each_example_is_an_expression(text: str) -> None:
    assert expression(text if re.search("[<>=!]|in |missing|positive", text) else f"{text} > 0").reads


def test_what_a_filter_in_python_declares_for_each_word() -> None:
    told = re.findall(r"^\| `(\w+)` \| (.+) \| (.+) \|$", PAGE[PAGE.index("| of the history |") :], re.M)
    named = {name: (re.findall(r"\w+", own), re.findall(r"\w+", rows)) for name, own, rows in told}
    assert named == {name: ([*f.own], [*f.rows]) for name, f in FEATURES.items()}
    for name, f in FEATURES.items():
        reads = f"Reads {', '.join(f.own)} of the alert; {', '.join(f.rows)} of the history."
        assert reads in str(f.function.__doc__), name


def test_every_function_is_on_the_page() -> None:
    for name in [*FUNCTIONS, *AGGREGATES, *FEATURES, "missing", "between"]:
        assert f"{name}(" in PAGE, name
