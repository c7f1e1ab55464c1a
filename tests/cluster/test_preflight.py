"""What must be so before a start, and the sentences that say so; ports and folders."""

from __future__ import annotations

import re
import socket
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.errors import ClusterError
from cluster.home import zads_cache, zads_home
from cluster.kafka import ports, preflight
from cluster.kafka.jvm import find_java
from cluster.kafka.node import telling_line
from cluster.kafka.settings import Ports, open_listeners, server_properties

MESSAGES = [
    (lambda: preflight.check_python((3, 10, 4)), "Python 3.11 or newer and this is 3.10.4"),
    (lambda: preflight.check_disk(Path("/no/such/folder"), needed=10**18), "GB free and a broker needs"),
    (lambda: preflight.check_port(80), "Port 80 cannot be used"),
    (lambda: preflight.check_port(70000), "Port 70000 cannot be used"),
    (lambda: find_java("/no/such/java"), "There is no Java at"),
]


@pytest.mark.parametrize(("check", "said"), MESSAGES, ids=[said for _, said in MESSAGES])
def test_each_finding_is_one_sentence(check, said: str) -> None:
    with pytest.raises(ClusterError) as caught:
        check()
    message = str(caught.value)
    assert said in message
    assert len(re.findall(r"[.!?](?= [A-Z]|$)", message)) <= 1
    assert "\n" not in message


def test_a_fit_machine_passes(tmp_path: Path) -> None:
    preflight.check_python()
    preflight.check_disk(tmp_path / "not" / "yet" / "there", needed=1)
    preflight.check_port(ports.free_port())


def test_java_by_home_and_by_program(monkeypatch: pytest.MonkeyPatch) -> None:
    brought = find_java()
    assert find_java(str(brought)) == brought
    assert find_java(str(brought.parent.parent)) == brought
    monkeypatch.setenv("ZADS_JAVA", str(brought))
    monkeypatch.setenv("PATH", "")
    assert find_java() == brought


def test_ports_in_order_of_preference() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        busy = taken.getsockname()[1]
        assert not ports.is_free(busy)
        assert ports.answers(busy)
        assert preflight.choose_port(None, busy, busy) in ports.SEARCHED
        with pytest.raises(ClusterError, match=f"Port {busy} is taken"):
            preflight.choose_port(busy, None)
    last, default = ports.free_port(), ports.free_port()
    assert preflight.choose_port(None, last, default) == last
    assert preflight.choose_port(None, None, default) == default


def test_folders_outside_the_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("ZADS_HOME", raising=False)
    monkeypatch.delenv("ZADS_CACHE", raising=False)
    assert (zads_home(), zads_cache()) == (tmp_path / ".zads", tmp_path / ".cache" / "zads")
    monkeypatch.setenv("ZADS_HOME", "~/elsewhere")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ZADS_CACHE", "here")
    assert (zads_home(), zads_cache()) == (tmp_path / "elsewhere", tmp_path / "here")


@given(st.text(max_size=400))
def test_any_log_has_a_telling_line(text: str) -> None:
    line = telling_line(text)
    assert line
    assert "\n" not in line


def test_the_cause_tells_more_than_its_consequence() -> None:
    log = "ERROR Exiting\nFooException: it failed\nCaused by: BarException: why\n\tat Bar.java:1\n"
    assert telling_line(log) == "Caused by: BarException: why"


def test_settings_can_be_replaced_and_added() -> None:
    ports, more = Ports(1111, 2222), {"num.io.threads": "9", "new.one": "a\\b"}
    text = server_properties(Path("/data"), ports, open_listeners(ports), more)
    settings = dict(line.split("=", 1) for line in text.splitlines())
    assert len(settings) == len(text.splitlines()), "each setting once"
    assert settings["num.io.threads"] == "9"
    assert settings["new.one"] == "a\\\\b"
    assert "1111" in settings["advertised.listeners"]


def test_the_last_port_is_waited_for_while_its_holder_goes() -> None:
    with socket.socket() as dying:
        dying.bind(("127.0.0.1", 0))
        dying.listen()
        last = dying.getsockname()[1]
        going = threading.Timer(0.5, dying.close)
        going.start()
        assert preflight.choose_port(None, last) == last
        going.join()
