"""One sandbox for all tests of it: its zygote takes a second or two to start."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pandas as pd
import pytest

from filters.sandbox.keeper import Sandbox, sandbox
from filters.sandbox.question import Program
from filters.sandbox.wire import Verdicts
from schemas.frame import TEXT

SECRET = "hunter2-of-the-pipeline"


@pytest.fixture(scope="session")
def started(walls: None) -> Iterator[Sandbox]:
    """The sandbox of this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ZADS_TEST_SECRET", SECRET)
        sandbox().start()
        yield sandbox()
    sandbox().close()


@pytest.fixture
def strict(started: Sandbox, monkeypatch: pytest.MonkeyPatch) -> Sandbox:
    """With less memory; nothing is judged twice unless a test says so."""
    monkeypatch.setattr(started, "_memory", 256 * 2**20)
    monkeypatch.setattr(started, "_seconds", 0.5)
    monkeypatch.setattr(started, "_twice", 0.0)
    return started


Judge = Callable[..., Verdicts]


@pytest.fixture
def judge(strict: Sandbox) -> Judge:
    """Judges alerts with columns candid and rb by the body of a function: judge("return ...", owner=...)."""

    def judged(body: str, owner: str = "mallory", rb: Any = (0.1, 0.9), **values: Any) -> Verdicts:
        column = np.asarray(rb, float)
        columns = {
            "rb": column,
            "candid": np.arange(len(column)),
            "objectId": pd.array(["a"] * len(column), dtype=TEXT),
        }
        program = Program(owner, text_of(body), "theirs.py", "f")
        return strict.judge(program, values, columns, pd.RangeIndex(len(column)))

    return judged


def text_of(body: str) -> str:
    """A file with one filter, `f`, that has this body."""
    lines = "".join(f"    {line}\n" for line in body.splitlines())
    head = "from filters import alert_filter\nimport os, sys\n\n@alert_filter(reads=['rb'])\ndef f(alerts):\n"
    return head + lines


WELL = "return {'real': alerts['rb'] > 0.5}"
