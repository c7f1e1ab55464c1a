"""`zads broker start|stop|status|logs`: a broker that stays after the command that started it."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from cluster.errors import ClusterError
from cluster.kafka.broker import log_tail, start_detached, status, stop_detached
from cluster.kafka.ports import free_port
from cluster.kafka.settings import DEFAULT_PORT
from tests.cluster.helpers import consume, create_topic, eventually, is_alive, produce

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture
def home(tmp_path: Path):
    """A home whose broker is stopped after the test."""
    yield tmp_path
    stop_detached(tmp_path)


def zads(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command `zads broker`."""
    command = [sys.executable, "-m", "zads", "broker", *arguments]
    environment = {**os.environ, "ZADS_HOME": str(home), "COLUMNS": "200"}
    return subprocess.run(
        command, capture_output=True, text=True, env=environment, cwd=REPOSITORY, check=False
    )


def test_the_life_of_a_detached_broker(home: Path) -> None:
    none = zads(home, "status")
    assert (none.returncode, none.stdout) == (1, "")
    assert "zads broker start" in none.stderr
    assert zads(home, "logs").returncode == 1

    port = free_port()
    started = zads(home, "start", "--port", str(port))
    assert (started.returncode, started.stdout) == (0, f"localhost:{port}\n"), started.stderr
    address = started.stdout.strip()
    create_topic(address, "stays")
    produce(address, "stays", [b"one", b"two"])
    assert zads(home, "status").stdout == started.stdout
    again = zads(home, "start")
    assert (again.returncode, again.stdout) == (0, started.stdout)
    assert "Running already" in again.stderr

    assert zads(home, "logs", "-n", "1").stdout.count("\n") == 1
    assert zads(home, "stop").returncode == 0
    assert zads(home, "status").returncode == 1
    assert "No broker was running" in zads(home, "stop").stderr

    restarted = zads(home, "start")
    assert restarted.stdout == started.stdout, "the port of the last start"
    assert consume(address, "stays", 2) == [b"one", b"two"]


def test_following_the_log(home: Path) -> None:
    start_detached(home)
    command = [sys.executable, "-m", "zads", "broker", "logs", "-n", "0", "--follow", "--home", str(home)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=REPOSITORY) as follower:
        assert follower.stdout is not None
        with (home / "kafka" / "broker.log").open("a") as log:
            # The follower may begin after any one line: write until it says one.
            for number in range(600):
                log.write(f"said {number}\n")
                log.flush()
                if psutil.Process(follower.pid).is_running() and _readable(follower.stdout.fileno(), 0.1):
                    break
        assert follower.stdout.readline().startswith("said ")
        follower.terminate()


def _readable(descriptor: int, seconds: float) -> bool:
    import select

    return bool(select.select([descriptor], [], [], seconds)[0])


def test_two_starts_at_once_make_one_broker(home: Path) -> None:
    with ThreadPoolExecutor(2) as pool:
        started = list(pool.map(lambda _: zads(home, "start"), range(2)))
    assert [each.returncode for each in started] == [0, 0], started
    assert started[0].stdout == started[1].stdout
    java = [
        each for each in psutil.process_iter(["cmdline"]) if str(home) in " ".join(each.info["cmdline"] or ())
    ]
    assert len([each for each in java if "kafka.Kafka" in each.info["cmdline"]]) == 1


def test_a_taken_port_is_passed_over_unless_asked_for(home: Path) -> None:
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            other.bind(("127.0.0.1", DEFAULT_PORT))
            other.listen()
        except OSError:
            pass  # somebody else has it already: just as well
        refused = zads(home, "start", "--port", str(DEFAULT_PORT))
        assert refused.returncode == 1
        assert f"Port {DEFAULT_PORT} is taken" in refused.stderr
        assert refused.stdout == ""
        now = start_detached(home)
        assert now.port not in (None, DEFAULT_PORT)


def test_a_process_that_got_the_number_later_is_not_the_broker(home: Path) -> None:
    """After a reboot the number in the state file may be anybody's: it is not believed, and not killed."""
    folder = home / "kafka"
    folder.mkdir()
    with subprocess.Popen(["sleep", "600"]) as innocent:
        state = {"port": free_port(), "controller_port": free_port(), "version": "4.1.2"}
        (folder / "broker.json").write_text(json.dumps({**state, "pid": innocent.pid, "created": 1.0}))
        assert not status(home).running
        assert not stop_detached(home)
        assert is_alive(innocent.pid)
        assert start_detached(home).port == state["port"]
        innocent.kill()


@pytest.mark.parametrize("content", ["", "{", "[]", '{"pid": 1}', "\0\0"])
def test_a_damaged_state_file_is_as_none(home: Path, content: str) -> None:
    (home / "kafka").mkdir()
    (home / "kafka" / "broker.json").write_text(content)
    assert not status(home).running
    assert log_tail(home) == []


def test_a_broker_killed_by_hand_starts_again(home: Path) -> None:
    first = start_detached(home, port=free_port())  # the default may go to another test's broker meanwhile
    psutil.Process(first.pid).kill()
    assert eventually(lambda: not status(home).running)
    second = start_detached(home)
    assert (second.port, second.running) == (first.port, True)
    with pytest.raises(ClusterError, match="runs already"):
        start_detached(home, port=free_port())


def test_a_home_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "kafka").write_text("a file where the folder would be")
    with pytest.raises(ClusterError, match="ZADS_HOME"):
        start_detached(tmp_path)
