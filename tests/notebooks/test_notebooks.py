"""The notebooks run from nothing, show pictures, stay small; and on real packets, by changing one line."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from nbformat import NotebookNode

import zads
from tests.notebooks.run import NOTEBOOKS, executed

MOST_BYTES = 1_000_000
CHOICE = re.compile(r"zads\.sample_archive\((.*?)\)")


def outputs(notebook: NotebookNode) -> Iterator[NotebookNode]:
    for cell in notebook.cells:
        yield from cell.get("outputs", [])


@pytest.fixture(scope="module", autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A ZADS_HOME with nothing in it: the first notebook makes the sample archive, the others find it."""
    folder = tmp_path_factory.mktemp("fresh") / "home"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ZADS_HOME", str(folder))
        yield folder


@pytest.fixture(scope="module")
def real_archive(real_alerts: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("real") / "archive"
    zads.ingest(real_alerts, place)
    return place


def test_there_are_five():
    assert [path.name[0] for path in NOTEBOOKS] == ["1", "2", "3", "4", "5"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_runs_and_shows_pictures(path):
    notebook = executed(path.read_text())
    found = list(outputs(notebook))
    assert any("image/png" in output.get("data", {}) for output in found)
    assert len(json.dumps(found)) < MOST_BYTES
    assert not [output for output in found if "Warning" in output.get("text", "")]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_one_line_chooses_real_packets(path, real_archive):
    text = path.read_text()
    [arguments] = CHOICE.findall(text)
    survey = "lsst" if "lsst" in arguments else "ztf"
    notebook = executed(CHOICE.sub(f"zads.Archive({str(real_archive)!r}, survey={survey!r})", text, count=1))
    assert any("image/png" in output.get("data", {}) for output in outputs(notebook))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_text_is_for_readers(path):
    """Prose half as long as the code at least, no long cells, and of ours only the front door is imported."""
    prose, code = [], []
    for cell in re.split(r"^# %%", path.read_text(), flags=re.MULTILINE)[1:]:
        (prose if cell.startswith(" [markdown]") else code).append(cell)
    assert all(len(cell.splitlines()) < 30 for cell in code)
    assert 2 * sum(map(len, prose)) > sum(map(len, code))
    imported = re.findall(r"^(?:from|import) (\w+)", "\n".join(code), re.MULTILINE)
    assert not set(imported) & {"schemas", "filters", "archive", "pipeline", "cluster", "commands"}


def test_the_lsdb_of_the_prose_finds_the_archives_alerts(tmp_path, monkeypatch):
    pytest.importorskip("lsdb", reason="lsdb is not among the packages of zads")
    prose = NOTEBOOKS[3].read_text().replace("\n# ", "\n").replace("\n#\n", "\n\n")
    [code] = re.findall(r"```python\n(.*?)```", prose, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    names = {"archive": zads.sample_archive()}
    exec(code, names)
    alerts, found = names["alerts"], names["around"].compute()
    inside = names["archive"].alerts(
        columns=["_healpix_29"],
        cone=(alerts["ra"].iloc[0], alerts["dec"].iloc[0], "600 arcsec"),
        where="rb >= 0.65",
    )
    assert sorted(found["candid"]) == sorted(inside["candid"].compute())
    assert sorted(found.index) == sorted(inside["_healpix_29"].compute())


def test_progress_is_one_line_of_a_cell(tmp_path, monkeypatch):
    monkeypatch.setenv("ZADS_HOME", str(tmp_path))
    [cell] = executed("# %%\nimport zads\nzads.sample_archive(300, 2)\n").cells
    kinds = [output.output_type for output in cell.outputs]
    assert kinds == ["display_data", "execute_result"], "it was an output for each step"
    assert "100%" in cell.outputs[0].data["text/plain"]
