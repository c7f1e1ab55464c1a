"""The version changes when, and only when, the verdict might."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import cloudpickle
import pandas as pd
import pytest

from commands.external.catalogues import add_catalogue
from filters import load, registered
from filters.external import Store
from filters.version import _modules, essence, plainly
from schemas.surveys.registry import module_of
from tests.filters.packets import alert

ROOT = Path(__file__).resolve().parents[2]
CODE = '''"""Mine."""
import json
from pathlib import Path
from zads import alert_filter

LEAST = 0.5  # a threshold
TABLE = {"g": [1, 2], "r": (3,)}
DATA = json.loads((Path(__file__).parent / "data.json").read_text())

class Cut:
    least = 0.1
    def __call__(self, survivors):
        return survivors["rb"] > self.least

def helper(alerts):
    return alerts["rb"] > 0.2

@alert_filter(survey="ztf", reads=["rb"])
def mine(alerts, *, rb_min: float = 0.1):
    "What it is."
    return {
        "real": alerts["rb"] > LEAST,
        "lazy": lambda survivors: helper(survivors) & Cut()(survivors),
    }
'''
SAME = {
    "a comment": ("# a threshold", "# the threshold"),
    "a docstring": ("What it is.", "What it was."),
    "the module's docstring": ("Mine.", "Ours."),
    "blank lines": ("class Cut", "\n\nclass Cut"),
}
OTHER = {
    "a constant": ("LEAST = 0.5", "LEAST = 0.0"),
    "a table": ("[1, 2]", "[1, 3]"),
    "a class": ("least = 0.1", "least = 0.2"),
    "a method": ("> self.least", ">= self.least"),
    "a helper of a lazy cut": ("> 0.2", "> 0.3"),
    "reads": ('reads=["rb"]', 'reads=["rb", "drb"]'),
    "a default": ("rb_min: float = 0.1", "rb_min: float = 0.2"),
    "a cut": ('"real": alerts["rb"] > LEAST', '"real": alerts["rb"] >= LEAST'),
    "a string that looks like a docstring": ('"lazy"', '"lazy too"'),
}


def version(folder: Path, code: str, data: str = "[1]", name: str = "mine.py") -> str:
    folder.mkdir(exist_ok=True)
    (folder / "data.json").write_text(data)
    (folder / name).write_text(code)
    return load(f"{folder / name}:mine").version


IMPORTED = """
import sys
from filters import registered
filters = registered().values()
before = set(sys.modules)
assert len({one.version for one in filters}) == len(filters) > 10
print(*set(sys.modules) - before)
"""


def test_to_tell_a_version_imports_nothing() -> None:
    """Every worker tells those of its channels: it must not load what only other filters need."""
    run = [sys.executable, "-c", IMPORTED]
    assert not subprocess.run(run, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()


@pytest.mark.parametrize("change", SAME.values(), ids=SAME)
def test_what_cannot_change_a_verdict(tmp_path: Path, change: tuple[str, str]) -> None:
    assert change[0] in CODE
    assert version(tmp_path / "a", CODE) == version(tmp_path / "b", CODE.replace(*change), name="other.py")


@pytest.mark.parametrize("change", OTHER.values(), ids=OTHER)
def test_what_can_change_a_verdict(tmp_path: Path, change: tuple[str, str]) -> None:
    assert change[0] in CODE
    before, after = version(tmp_path / "a", CODE), version(tmp_path / "b", CODE.replace(*change))
    assert before != after
    assert len(after) == 12


def test_data_from_a_file_beside_it(tmp_path: Path) -> None:
    assert version(tmp_path / "a", CODE, "[1]") != version(tmp_path / "b", CODE, "[2]")
    arrays = CODE.replace("DATA = json", "import numpy as np\nDATA = np.array(json").replace(
        "_text())", "_text()))"
    )
    assert version(tmp_path / "a", arrays, "[1]") != version(tmp_path / "b", arrays, "[2]")


def test_a_catalogue_says_its_own_version(tmp_path: Path) -> None:
    code = "class Catalogue:\n    def __init__(self, v): self.__zads_version__ = v\nCAT = Catalogue(DATA)\n"
    code = CODE.replace("class Cut", f"{code}\nclass Cut")
    told = [
        version(tmp_path / str(n), code.replace("DATA = json", "_DATA = json").replace("(DATA)", v))
        for n, v in enumerate(['("DR2")', '("DR3")', '("DR2")'])
    ]
    assert told[0] == told[2] != told[1]


def test_other_parameters_and_what_was_judged_since_then_change_nothing(tmp_path: Path) -> None:
    """The file may be another one by now, and a filter may have noted something; elsewhere is no file."""
    noted = 'NOTED = {}\n\ndef helper(alerts):\n    NOTED["n"] = len(alerts)'
    before = version(tmp_path / "a", CODE.replace("def helper(alerts):", noted))
    mine = load(f"{tmp_path}/a/mine.py:mine")
    assert mine.one(alert(rb=0.9))
    (tmp_path / "a" / "mine.py").write_text(CODE.replace("LEAST = 0.5", "LEAST = 0.6"))
    there = cloudpickle.loads(cloudpickle.dumps(mine))
    assert {one.using(rb_min=0.3).version for one in (mine, there)} == {before}


def test_a_catalogue_that_is_replaced_and_put_back_changes_no_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which version of it was read is told beside the filter's."""
    monkeypatch.setenv("ZADS_EXTERNAL", str(tmp_path))
    (tmp_path / "mine.py").write_text(CODE.replace('reads=["rb"]', 'reads=["rb", "near.sep"]'))
    frame = pd.DataFrame({"name": ["a", "b"], "ra": [1.0, 2.0], "dec": [3.0, 4.0], "mag": [1.0, 2.0]})
    asked = ["near.match and near.mag < 4; m = near.mag", "near.match", f"{tmp_path}/mine.py:mine"]
    (tmp_path / "data.json").write_text("[1]")
    first = Store(tmp_path)
    told, read = [], []
    for rows in (frame, frame.iloc[:1].assign(mag="faint"), frame):
        add_catalogue(rows, "near", 3.0, units={"mag": "mag"})
        read.append(first.current("near"))
        told.append([load(one).version for one in asked])
    assert read[0] == read[2] != read[1]
    assert told[0] == told[1] == told[2]


def test_a_module_of_a_package_and_what_it_imports_from_it(tmp_path: Path) -> None:
    def told(helper: str, unused: str = "") -> str:
        folder = tmp_path / "of" / "science"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "__init__.py").write_text("")
        (folder / "parts.py").write_text(helper)
        (folder / "unused.py").write_text(unused)
        (folder / "mine.py").write_text(
            "from filters import alert_filter\nfrom . import parts\n"
            "@alert_filter(survey='ztf', reads=['rb'])\n"
            "def mine(alerts):\n    return {'real': alerts['rb'] > parts.LEAST}\n"
        )
        script = "from filters import load; print(load('science.mine:mine').version)"
        environment = os.environ | {"PYTHONPATH": f"{ROOT}:{folder.parent}", "PYTHONDONTWRITEBYTECODE": "1"}
        run = [sys.executable, "-c", script]
        return subprocess.run(run, env=environment, capture_output=True, text=True, check=True).stdout.strip()

    assert told("LEAST = 0.5") != told("LEAST = 0.6") == told("LEAST = 0.6", "X = 1")


def test_at_a_prompt_constants_helpers_and_captured_values_count() -> None:
    def typed(*lines: str) -> str:
        code = "\n".join(["from filters import alert_filter", *lines, "print(f.version)"])
        run = [sys.executable, "-c", code]
        return subprocess.run(run, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()

    def filter_of(body: str, *before: str) -> str:
        return typed(
            *before, "@alert_filter(survey='ztf', reads=['rb'])", "def f(alerts):", f"    return {body}"
        )

    lazy = "{'real': lambda s: helper(s)}"
    told = [
        filter_of("{'real': alerts['rb'] > LEAST}", "LEAST = 0.5"),
        filter_of("{'real': alerts['rb'] > LEAST}", "LEAST = 0.6"),
        filter_of(lazy, "def helper(s): return s['rb'] > 0.5"),
        filter_of(lazy, "def helper(s): return s['rb'] > 0.6"),
        filter_of(lazy, "X = 1", "def helper(s): return s['rb'] > X"),
        filter_of(lazy, "X = 2", "def helper(s): return s['rb'] > X"),
    ]
    assert len(set(told)) == len(told)
    assert filter_of(lazy, "Y = 2", "def helper(s): return s['rb'] > 0.5") == told[2], "nobody names Y"


def test_built_in_filters_depend_on_the_rooms_that_make_their_columns() -> None:
    for f in registered().values():
        rooms = [module_of(survey) for survey in f.surveys]
        names = {name for name, _ in _modules(sys.modules[f.function.__module__], rooms)}
        columns = {f"{room}.columns" for room in rooms}
        assert {"filters.contract", "filters.cuts", "schemas.frame", *columns} <= names
        assert not [name for name in names if name.split(".")[0] not in ("", "filters", "schemas")]
    versions = {f.version for f in registered().values()}
    assert len(versions) == len(registered())


def test_the_same_in_every_process() -> None:
    script = "from filters import registered; print([f.version for f in registered().values()])"
    run = [sys.executable, "-c", script]
    told = subprocess.run(run, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert told.strip() == str([f.version for f in registered().values()])


def test_essence_keeps_what_only_looks_like_a_comment() -> None:
    assert essence('x = "# no comment"  # one\n') == 'x = "# no comment"'
    assert essence('def f():\n    """Doc."""\n    return """kept"""\n') == 'def f():\n    return """kept"""'


def test_plain_values_in_any_order_of_making() -> None:
    assert plainly({"a", "b"}) == plainly({"b", "a"})
    assert plainly(lambda: 1) is None
    assert plainly([1, 2.5, None]) == "[1, 2.5, None]"
