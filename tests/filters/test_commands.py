"""`zads filters` and `zads explain`, as a person and as a program use them."""

import json
from pathlib import Path
from typing import Any

import fastavro
import pytest
import typer
from typer.testing import CliRunner

import commands.explain
import commands.filters
from filters import registered
from filters.errors import BadParameter, FilterError, UnknownFilter
from schemas.errors import PacketError, ZadsError
from schemas.surveys.registry import SURVEYS
from tests.filters.packets import alert, detection

app = typer.Typer()
commands.filters.register(app)
commands.explain.register(app)


def run(*arguments: str) -> Any:
    result = CliRunner().invoke(app, list(arguments), env={"COLUMNS": "200"})
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


@pytest.fixture
def two_alerts(tmp_path: Path) -> Path:
    """A file with two alerts of one object, 31 and 29 minutes after its first detection."""
    records = [
        _whole(alert([detection(31)]) | {"candid": 1}),
        _whole(alert([detection(29)]) | {"candid": 2}),
    ]
    path = tmp_path / "two.avro"
    with path.open("wb") as file:
        fastavro.writer(file, fastavro.parse_schema(SURVEYS["ztf"].reference), records)
    return path


def _whole(packet: dict[str, Any]) -> dict[str, Any]:
    """The packet with every other field of the schema: null, or zero where the schema has no null."""
    reference: Any = SURVEYS["ztf"].reference
    return _filled(reference, {**packet, "schemavsn": "4.01", "publisher": "test"})


def _filled(record: Any, values: dict[str, Any]) -> dict[str, Any]:
    filled = {}
    for field in record["fields"]:
        kind, value = field["type"], values.get(field["name"])
        nullable = isinstance(kind, list)
        inner = next(k for k in kind if k != "null") if nullable else kind
        if isinstance(inner, dict) and inner["type"] == "record":
            filled[field["name"]] = None if nullable and value is None else _filled(inner, value or {})
        elif isinstance(inner, dict) and inner["type"] == "array":
            filled[field["name"]] = None if value is None else [_filled(inner["items"], row) for row in value]
        else:
            zero = "" if inner == "string" else b"" if inner == "bytes" else 0
            filled[field["name"]] = zero if value is None and not nullable else value
    return filled


def test_list() -> None:
    out = run("filters").stdout
    for f in registered().values():
        assert f.name in out
    assert "gap=30 min" in out


def test_list_for_programs() -> None:
    listed = json.loads(run("filters", "--json").stdout)
    assert [f["name"] for f in listed] == sorted(registered())
    assert listed[0]["parameters"]["source_radius"] == {"default": 5.0, "unit": "arcsec", "kind": "float"}


def test_one() -> None:
    out = run("filters", "two_detections_30min").stdout
    assert "Bellm et al. 2017" in out
    assert "positive, seen again tonight, none before" in out
    assert "prv_candidates.magpsf" in out


def test_the_values_that_a_filter_gives_are_listed(tmp_path: Path) -> None:
    own = tmp_path / "own.py"
    own.write_text(
        "from zads import alert_filter\n\n"
        "@alert_filter(reads=['rb'], gives={'rate': 'mag/d', 'how': 'text'})\n"
        "def own(alerts):\n    rb = alerts['rb']\n"
        "    return {'real': rb > 0}, {'rate': rb, 'how': rb.map(str)}\n"
    )
    assert "gives: rate (mag/d), how (text)" in run("filters", f"{own}:own").stdout
    assert json.loads(run("filters", f"{own}:own", "--json").stdout)["gives"] == {
        "rate": "mag/d",
        "how": "text",
    }


def test_one_from_a_file_without_reads(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text("from filters import alert_filter\n@alert_filter()\ndef mine(alerts):\n    return {}\n")
    assert "does not say what it reads" in run("filters", f"{file}:mine").stdout
    assert json.loads(run("filters", str(file), "--json").stdout)["reads"] is None


def test_unknown() -> None:
    with pytest.raises(UnknownFilter, match="did you mean 'asteroid'"):
        run("filters", "astroid")


def test_explain_every_alert_of_a_file(two_alerts: Path) -> None:
    out = run("explain", "two_detections_30min", str(two_alerts)).stdout
    assert "candid 1: passes" in out
    assert "candid 2: does not pass" in out
    assert out.count("stopped here") == 1
    assert "1 of 2 alerts pass, 1 of 1 objects" in out
    assert "prv_candidates.magpsf = 1 rows, 1 with a value: 18.5" in out


def test_explain_with_another_threshold(two_alerts: Path) -> None:
    out = run("explain", "two_detections_30min", str(two_alerts), "--param", "gap=20").stdout
    assert "2 of 2 alerts pass" in out
    assert "gap=20.0" in out


def test_explain_for_programs(two_alerts: Path) -> None:
    first, second = json.loads(run("explain", "two_detections_30min", str(two_alerts), "--json").stdout)
    assert (first["candid"], first["passes"], second["passes"]) == (1, True, False)
    assert [cut["stopped"] for cut in second["cuts"]] == [False, True, False]
    assert second["cuts"][0]["saw"] == {"positive": True}


def test_explain_says_what_is_wrong(two_alerts: Path, tmp_path: Path) -> None:
    with pytest.raises(BadParameter, match="did you mean 'gap'"):
        run("explain", "two_detections_30min", str(two_alerts), "--param", "gab=20")
    assert run("explain", "pure", str(two_alerts), "--param", "gap").exit_code == 2
    with pytest.raises(ZadsError, match=r"no file .*none\.avro, and it is no candid"):
        run("explain", "pure", str(tmp_path / "none.avro"))
    broken = tmp_path / "broken.avro"
    broken.write_bytes(two_alerts.read_bytes()[:-40])
    with pytest.raises(PacketError):
        run("explain", "pure", str(broken))


def test_explain_a_packet_of_another_survey(real_alerts: Path) -> None:
    packet = next((real_alerts / "lsst_ocf").iterdir())
    with pytest.raises(FilterError, match="is of lsst; pure is for ztf"):
        run("explain", "pure", str(packet))


def test_explain_real_packets(real_alerts: Path) -> None:
    for packet in sorted((real_alerts / "ztf_4.01").iterdir())[:4]:
        for name, f in registered("ztf").items():
            (told,) = json.loads(run("explain", name, str(packet), "--json").stdout)
            assert [cut["cut"] for cut in told["cuts"]] == f.cut_names()
            assert all(cut["saw"] for cut in told["cuts"] if cut["passed"] is not None)  # it was reached
            assert told["passes"] == all(cut["passed"] for cut in told["cuts"])
