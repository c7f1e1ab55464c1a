"""What is logged, for programs: one JSON object a line, with what it is about; what lasts, once a minute."""

from __future__ import annotations

import json
import logging
import threading
import time

import pytest

from pipeline.broker import logs
from pipeline.broker.logs import STILL_SO_SECONDS, JsonLines, NowAndThen, about
from pipeline.broker.partition import Partition

PLACE = Partition("t", 3)


class Lines(logging.Handler):
    """Keeps each line as JSON, read again."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(JsonLines())
        self.told: list[dict[str, object]] = []

    def emit(self, record: logging.LogRecord) -> None:
        text = self.format(record)
        assert "\n" not in text
        self.told.append(json.loads(text))


def logger(name: str) -> tuple[logging.Logger, Lines]:
    log, lines = logging.Logger(name), Lines()
    log.addHandler(lines)
    return log, lines


def test_a_line_says_what_it_is_about() -> None:
    log, lines = logger("zads.test")
    log.warning("%s: %s", PLACE, "two\nlines")
    log.error("gone", extra=about(PLACE, offset=7, candid=42, channel=None))
    try:
        raise ValueError("of a bug")
    except ValueError as error:
        log.error("it broke", exc_info=error)
    first, second, third = lines.told
    assert (first["level"], first["logger"], first["message"]) == ("warning", "zads.test", "t/3: two\nlines")
    assert (first["topic"], first["partition"]) == ("t", 3)
    assert {name: second[name] for name in ("topic", "partition", "offset", "candid")} == {
        "topic": "t",
        "partition": 3,
        "offset": 7,
        "candid": 42,
    }
    assert "channel" not in second
    assert "ValueError: of a bug" in str(third["traceback"])


def test_what_lasts_is_said_at_once_and_then_once_a_minute() -> None:
    now = [0.0]
    log, lines = logger("zads.test")
    lasting = NowAndThen(log, lambda: now[0])
    for second in range(int(2 * STILL_SO_SECONDS)):
        now[0] = float(second)
        lasting.warn("the broker is away", f"for {second} s")
        if second == 5:
            lasting.warn("something else", "now", about(PLACE))
    assert [line["message"] for line in lines.told] == [
        "the broker is away: for 0 s",
        "something else: now",
        "the broker is away: for 60 s",
    ]
    assert lines.told[1]["partition"] == 3


def test_a_call_that_does_not_come_back_is_told_while_it_lasts_and_not_after(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A library that tries again by itself says nothing meanwhile."""
    monkeypatch.setattr(logs, "STILL_SO_SECONDS", 0.05)
    log, told = logging.getLogger("zads.slow"), threading.Event()
    log.addFilter(lambda record: told.set() is None)
    with logs.told_while_slow(log, "the store does not answer", seconds=60.0):
        pass
    assert not caplog.messages
    with logs.told_while_slow(log, "the store does not answer", seconds=0.01):
        for _ in range(2):
            assert told.wait(10.0)
            told.clear()
    before = len(caplog.messages)
    time.sleep(0.2)
    assert len(caplog.messages) <= before + 1  # the one that was just being told
    assert caplog.messages[0].startswith("the store does not answer: for ")
