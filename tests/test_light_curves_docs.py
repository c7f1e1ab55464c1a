"""docs/light_curves.md: its code runs and finds supernovae, and its table names what the filter gives."""

from __future__ import annotations

import re
from typing import Any

from filters import registered
from tests.test_docs import ROOT, blocks

PAGE = (ROOT / "docs" / "light_curves.md").read_text()


def test_the_page() -> None:
    names: dict[str, Any] = {}
    exec(blocks(PAGE, "python")[0], names)
    found = names["type_ia"].judge(names["night"]).values
    assert len(found) > 5
    assert set(found) <= set(re.findall(r"`(\w+)`", PAGE))
    assert (found["chi2_dof"] <= registered()["type_ia"].values["chi2_max"]).all()
