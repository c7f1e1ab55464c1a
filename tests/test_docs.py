"""The documents run: every Python block, every command, every configuration key."""

import io
import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections import Counter
from pathlib import Path

import fastavro
import numpy as np
import pytest
from astropy.time import Time
from deltalake import DeltaTable

import zads
from pipeline.channels.config import RunConfig, read_config
from tests import rubin

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()
OPERATING = (ROOT / "docs" / "operating.md").read_text()
ARCHIVE = (ROOT / "docs" / "archive.md").read_text()


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


@pytest.fixture(scope="module")
def a_night_by_hand(tmp_path_factory):
    """The commands of the README in their order, in a folder and a home of their own."""
    folder = tmp_path_factory.mktemp("by-hand")
    environment = {**os.environ, "ZADS_HOME": str(folder / "home"), "PYTHONPATH": str(ROOT)}
    environment.pop("ZADS_BOOTSTRAP_SERVERS", None)
    said = {}
    try:
        for line in blocks(README, "console")[0].splitlines():
            program, *arguments = shlex.split(line)
            assert program == "zads"
            command = [sys.executable, "-m", "zads", *arguments]
            if arguments == ["broker", "stop"]:
                said["the listener"] = _listener(folder, environment)
            done = subprocess.run(
                command, cwd=folder, env=environment, capture_output=True, text=True, timeout=150, check=False
            )
            assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
            said[line] = done.stdout + done.stderr
    finally:
        stop = [sys.executable, "-m", "zads", "broker", "stop"]
        subprocess.run(stop, cwd=folder, env=environment, capture_output=True, timeout=60, check=False)
    return said


def _listener(folder: Path, environment: dict[str, str]) -> str:
    """The README's way to read a channel, at whichever port the broker is."""
    status = [sys.executable, "-m", "zads", "broker", "status"]
    where = subprocess.run(status, env=environment, capture_output=True, text=True, timeout=60, check=True)
    code = blocks(README, "python")[-1]
    assert "localhost:9092" in code
    code = code.replace("localhost:9092", where.stdout.strip())
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_night_by_hand_finds_something(a_night_by_hand):
    listened = next(text for line, text in a_night_by_hand.items() if line.startswith("zads listen"))
    assert "ZTF" in listened


def test_the_listener_prints_alerts(a_night_by_hand):
    assert re.search(r"^ZTF\w+ \d+ \d+", a_night_by_hand["the listener"], re.MULTILINE)


def test_the_filter_of_the_readme_runs_and_is_the_registered_one(tmp_path, capsys):
    path = tmp_path / "my_filters.py"
    path.write_text(blocks(README, "python")[0])
    mine = zads.load(f"{path}:two_detections")
    packets = [alert.packet for alert in zads.simulate(400, seed=2, stamps=False)]
    for gap in (10, 30):
        registered = zads.load("two_detections_30min").using(gap=gap)
        reads = list({*mine.reads, *registered.reads})
        frame = zads.to_frame(zads.PacketReader(zads.stored_columns(reads)).read(packets).table, reads)
        assert mine.using(gap=gap).passes(frame).equals(registered.passes(frame))
    exec("\n".join(blocks(README, "python")[:2]), {"__name__": str(tmp_path)})
    assert "seen again tonight" in capsys.readouterr().out


def test_the_rubin_filter_of_the_readme_runs_beside_the_ztf_one(tmp_path, capsys):
    every = blocks(README, "python")
    exec("\n".join(every[:-1]), {"__name__": str(tmp_path)})
    said = capsys.readouterr().out
    assert "new light" in said
    assert "seen again tonight" in said
    path = tmp_path / "my_filters.py"
    path.write_text("\n".join((every[0], every[2])))
    mine = zads.load(f"{path}:young_and_bright")
    reads = [*mine.reads, "candid"]
    packets = [alert.packet for alert in zads.simulate_rubin(200, seed=1, stamps=False)]
    table = zads.PacketReader(zads.stored_columns(reads, "lsst"), "lsst").read(packets).table
    frame = zads.to_frame(table, reads, "lsst")
    found = set(frame["candid"][mine.passes(frame)])
    assert found == {p["diaSourceId"] for p in map(rubin.read, packets) if _young_and_bright(p)}
    assert found


def _young_and_bright(packet: dict) -> bool:
    """The README's filter in plain Python."""
    source, whole = packet["diaSource"], packet["diaObject"]
    forced = [row["psfFlux"] for row in packet["prvDiaForcedSources"] or [] if row["psfFlux"] is not None]
    if whole is None or whole["nDiaSources"] > 3 or not forced:
        return False
    return source["psfFlux"] - max(forced) > 10 * source["psfFluxErr"]


def test_the_channel_of_the_readme_is_valid_configuration(tmp_path):
    (tmp_path / "zads.toml").write_text(blocks(README, "toml")[0])
    assert read_config(tmp_path / "zads.toml").channels["mine"].parameters == {"gap": 20}


def test_the_documented_defaults_are_the_defaults(tmp_path, monkeypatch):
    monkeypatch.delenv("ZADS_BOOTSTRAP_SERVERS", raising=False)
    documented = tomllib.loads(blocks(OPERATING, "toml")[0])
    assert documented == RunConfig().model_dump()


@pytest.fixture
def an_archive(tmp_path, monkeypatch):
    """Simulated alerts in the folder `archive` of the working folder; some of them twice, once altered."""
    monkeypatch.chdir(tmp_path)
    alerts = list(zads.simulate(200, seed=3, nights=2, stamps=False))
    packets = [alert.packet for alert in alerts] + [_fainter(alert.packet) for alert in alerts[:20]]
    for number, packet in enumerate(packets):
        folder = tmp_path / f"{number // len(alerts)}"
        folder.mkdir(exist_ok=True)
        (folder / f"{number}.avro").write_bytes(packet)
    for folder in ("0", "1"):
        zads.ingest(tmp_path / folder, tmp_path / "archive")
    return packets


def _fainter(raw: bytes) -> bytes:
    reader = fastavro.reader(io.BytesIO(raw))
    [packet] = reader
    packet["candidate"]["magpsf"] += 1
    written = io.BytesIO()
    fastavro.writer(written, reader.writer_schema, [packet])
    return written.getvalue()


def test_polars_reads_the_archive_as_documented(an_archive):
    names: dict = {}
    exec(blocks(ARCHIVE, "python")[0], names)
    packets = [zads.read_packet(raw)[0] for raw in an_archive]
    real = [p for p in packets if p["candidate"]["programid"] == 1 and p["candidate"]["rb"] >= 0.65]
    nights = names["by_night"].sort("night").collect()
    assert sum(nights["alerts"]) == len(real)
    expected = Counter(Time(p["candidate"]["jd"], format="jd").to_datetime().date() for p in real)
    assert dict(zip(nights["night"], nights["alerts"], strict=True)) == expected


def test_duckdb_reads_the_archive_as_documented(an_archive):
    names: dict = {}
    exec(blocks(ARCHIVE, "python")[1], names)
    newest = {packet["candid"]: packet for packet in (zads.read_packet(raw)[0] for raw in an_archive)}
    expected = {
        candid: (
            np.float32(p["candidate"]["magpsf"]),
            sum(row["magpsf"] is not None for row in p["prv_candidates"] or []),
        )
        for candid, p in newest.items()
    }
    rows = names["newest"].fetchall()
    assert {candid: (np.float32(mag), before or 0) for _, candid, mag, before in rows} == expected


def test_the_documented_columns_are_those_of_the_archive(an_archive):
    columns = set(DeltaTable("archive/ztf").schema().to_arrow().names)
    named = set(re.findall(r"`([\w.]+)`", ARCHIVE.partition("**Versions.")[0]))
    assert {name for name in columns if name[0] == "_"} == {name for name in named if name[0] == "_"}
    assert {name for name in named if re.match(r"(prv_candidates|fp_hists)\.", name)} <= columns
