"""`zads run` on a terminal: a live table, and lines with `--plain`."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest

from cluster.kafka.broker import Broker
from pipeline.clients.publish import publish_packets
from tests.pipeline.night import REPOSITORY, night
from tests.pipeline.topics import new_topic

DRAWN_AGAIN = "\x1b[1A"
"""One line up: what was drawn there is drawn again."""


def on_a_terminal(folder: Path, *arguments: str) -> str:
    """All that a command writes to a terminal of its own."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "ZADS_HOME": str(folder), "PYTHONPATH": str(REPOSITORY), "TERM": "xterm"}
    command = [sys.executable, "-m", "zads", *arguments]
    process = subprocess.Popen(
        command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment, cwd=folder
    )
    os.close(theirs)
    written = b""
    while True:
        try:
            more = os.read(ours, 10_000)
        except OSError:  # nobody holds the other end any more
            break
        if not more:
            break
        written += more
    os.close(ours)
    assert process.wait(60) == 0, written.decode()
    return written.decode()


@pytest.mark.parametrize("plain", [False, True])
def test_a_live_table_on_a_terminal_unless_lines_are_asked_for(
    plain: bool, broker: Broker, tmp_path: Path
) -> None:
    topic = new_topic(broker.bootstrap_servers)
    publish_packets([alert.packet for alert in night()[:20]], broker.bootstrap_servers, topic=topic)
    wanted = ("--bootstrap", broker.bootstrap_servers, "--topics", topic, "--group", topic, "--workers", "1")
    run = ("run", "--until-drained", "--channels", "asteroid", "--again", *wanted)
    said = on_a_terminal(tmp_path, *run, *(["--plain"] if plain else []))
    assert (DRAWN_AGAIN in said) is not plain
    words = re.sub(r"\x1b\[[0-9;]*m", "", said)
    assert "20 records, " in words, "it has run"
    assert not plain or "0 alerts of 0 objects · " in words, "the lines tell how it goes"
