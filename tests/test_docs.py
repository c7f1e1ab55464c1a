"""The documents run: every Python block, every command, every configuration key."""

import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import zads
from pipeline.config import RunConfig, read_config

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()
OPERATING = (ROOT / "docs" / "operating.md").read_text()


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


def test_the_channel_of_the_readme_is_valid_configuration(tmp_path):
    (tmp_path / "zads.toml").write_text(blocks(README, "toml")[0])
    assert read_config(tmp_path / "zads.toml").channels["mine"].parameters == {"gap": 20}


def test_the_documented_defaults_are_the_defaults(tmp_path, monkeypatch):
    monkeypatch.delenv("ZADS_BOOTSTRAP_SERVERS", raising=False)
    documented = tomllib.loads(blocks(OPERATING, "toml")[0])
    assert documented == RunConfig().model_dump()
