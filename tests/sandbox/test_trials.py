"""A stream waits once for an owner whose filters come to no end, and for all whose filters come to one."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from filters.sandbox.errors import Ended, OnTrial
from filters.sandbox.keeper import Sandbox
from filters.sandbox.question import Program
from filters.sandbox.trials import Trials, in_a_hurry
from filters.sandbox.uploaded import uploaded
from filters.sandbox.wire import DONE, LOAD, Patience, receive_until, send
from filters.testing import packet
from pipeline.channels.channel import Channel, ChannelSet
from pipeline.worker.judging.evaluate import Evaluator
from tests.frames import frame_of_packet
from tests.sandbox.conftest import WELL, Judge, text_of

LOOPS = "if (alerts['rb'] > 0.99).any():\n    while True: pass\n" + WELL
GOOD, BAD = (0.1, 0.9), (0.1, 1.0)


def until_judged(judge: Judge, body: str, owner: str, rb: tuple[float, ...] = GOOD) -> int:
    """Ask until nobody is on trial any more; how often the stream has gone on without.

    On a busy machine that takes long: a trial is the last to get a processor.
    """
    for times in range(60_000):
        with suppress(OnTrial):
            assert judge(body, owner, rb).cuts["real"].tolist() == [False, True]
            return times
        time.sleep(0.01)
    raise AssertionError("its trial does not end")


def test_the_stream_waits_once_and_who_comes_to_an_end_is_back(judge: Judge, tmp_path: Path) -> None:
    """On trial is each filter of the owner, nobody else's; a batch in time, beside the stream, ends it."""
    with in_a_hurry(tmp_path):
        with pytest.raises(Ended, match="took more than"):
            judge(LOOPS, "ann", BAD)
        with pytest.raises(OnTrial, match="beside the stream"):
            judge(WELL, "ann")
        assert judge(WELL, "ben").cuts["real"].tolist() == [False, True]
        assert until_judged(judge, LOOPS, "ann") > 0
        until_judged(judge, WELL, "ann")
    assert judge(WELL, "ann").cuts["real"].tolist() == [False, True]


def test_who_does_not_is_ended_for_the_second_time_without_being_waited_for(
    judge: Judge, tmp_path: Path
) -> None:
    """Nor is any other batch waited for meanwhile: the process of the stream's own place is not made anew."""
    with in_a_hurry(tmp_path):
        with pytest.raises(Ended) as first:
            judge(LOOPS, "cat", BAD)
        with pytest.raises(Ended) as second:
            until_judged(judge, LOOPS, "cat", BAD)
    assert (first.value.strike, second.value.strike) == (1, 2)
    assert "line 7 in f" in second.value.traceback


def test_who_waits_goes_on_when_another_process_has_ended_the_owners(
    judge: Judge, strict: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that workers which come to the same owner at the same time do not each wait to the end."""
    monkeypatch.setattr(strict, "_seconds", 60.0)

    def elsewhere() -> None:
        with in_a_hurry(tmp_path):
            Trials("hal").doubt()

    later = threading.Timer(0.3, elsewhere)
    with in_a_hurry(tmp_path):
        later.start()
        with pytest.raises(OnTrial):
            judge("while True: pass", "hal")
    later.join()


def test_during_an_alarm_who_takes_far_longer_than_ever_is_not_waited_for_to_the_end(
    judge: Judge, strict: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So owners that attack at one moment do not add up. That alone is no strike."""
    monkeypatch.setattr(strict, "_seconds", 1.0)
    with in_a_hurry(tmp_path):
        for owner in ("kim", "lou"):
            for _ in range(3):
                judge(LOOPS, owner)
        with pytest.raises(Ended, match="took more than 1 s"):
            judge(LOOPS, "kim", BAD)
        with pytest.raises(OnTrial, match="longer than usual"):
            judge(LOOPS, "lou", BAD)
        with pytest.raises(Ended) as ended:
            until_judged(judge, LOOPS, "lou", BAD)
        assert ended.value.strike == 1
        until_judged(judge, LOOPS, "lou")
        os.utime(tmp_path / "alarm", (time.time() - 11,) * 2)
        judge(LOOPS, "mia")
        with pytest.raises(Ended, match="took more than 1 s"):
            judge(LOOPS, "mia", BAD)


def test_what_one_alert_has_cost_says_nothing_of_a_thousand(
    judge: Judge, strict: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A call costs as much for one alert as for a hundred: after a small batch a large one is no surprise,
    and an endless one is."""
    monkeypatch.setattr(strict, "_seconds", 60.0)
    slow = "import time\nend = time.process_time() + 0.01\nwhile time.process_time() < end: pass\n" + LOOPS
    with in_a_hurry(tmp_path):
        Trials("oda").alarm()
        judge(slow, "pia", (0.1,) * 2)
        judge(slow, "pia", (0.1,) * 1000)
        with pytest.raises(OnTrial, match="longer than usual"):
            judge(slow, "pia", (*(0.1,) * 999, 1.0))


def test_who_passes_trials_and_goes_on_attacking_has_to_pass_more_of_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Four times as many with each doubt; doubts that are ten minutes old are forgotten."""
    trials = Trials("nan")

    def passed() -> int:
        for times in range(1, 100):
            trials.begin("a", lambda: None)
            wait_until(lambda: not trials.is_running("a"))
            if not trials.wanted("a"):
                return times
        raise AssertionError("it is never cleared")

    found = []
    for _ in range(3):
        trials.doubt()
        found.append(passed())
    assert found == [1, 4, 16]
    now = time.monotonic()
    monkeypatch.setattr("filters.sandbox.trials.time.monotonic", lambda: now + 601)
    trials.doubt()
    assert passed() == 1


LATER = (
    "seen = vars(sys).setdefault('seen', [])\nseen.append(1)\nif len(seen) > 3:\n    while True: pass\n"
    + WELL
)


def test_who_attacks_after_some_batches_is_found_out_on_trial(judge: Judge, tmp_path: Path) -> None:
    """One process judges more batches there than the one that had to be ended."""
    with in_a_hurry(tmp_path):
        for _ in range(3):
            judge(LATER, "oda")
        with pytest.raises(Ended) as first:
            judge(LATER, "oda")
        with pytest.raises(Ended) as second:
            until_judged(judge, LATER, "oda")
    assert (first.value.strike, second.value.strike) == (1, 2)


def test_who_attacks_at_once_has_done_so_before_a_stream_waits(strict: Sandbox, tmp_path: Path) -> None:
    """What is prepared for a stream judges an alert that is none; an honest filter never knows."""
    texts = {"pia": "while True: pass", "rob": WELL}
    made = {owner: uploaded(Program(owner, text_of(body), "f.py", "f")) for owner, body in texts.items()}
    channels = ChannelSet(tuple(Channel(owner, f) for owner, f in made.items()))
    Evaluator(channels).prepare()
    frame = frame_of_packet(packet("ztf", rb=0.9), ["rb"])
    with in_a_hurry(tmp_path):
        with pytest.raises(OnTrial):
            made["pia"].judge(frame)
        assert made["rob"].judge(frame).mask.tolist() == [True]


def test_nobody_goes_on_without_a_filter_that_takes_as_long_as_it_does(
    judge: Judge, strict: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it has cost is what it may cost, within its limits, during an alarm too."""
    monkeypatch.setattr(strict, "_seconds", 5.0)
    slow = "import time\nend = time.process_time() + 0.3\nwhile time.process_time() < end: pass\n" + WELL
    with in_a_hurry(tmp_path):
        for _ in range(3):
            assert judge(slow, "ida").cuts["real"].tolist() == [False, True]
            (tmp_path / "alarm").touch()
        with pytest.raises(OnTrial):
            judge(slow, "one of whom nothing is known")
        assert judge(WELL, "another").cuts["real"].tolist() == [False, True]


def test_another_process_of_the_machine_is_told(tmp_path: Path) -> None:
    """It does not wait once for the owner's filters, for ten minutes, until they come to an end."""
    ended = Trials("fay, public")
    here, other, late = (Trials(name) for name in ("fay, public", "gus, public", "fay, public"))
    with in_a_hurry(tmp_path):
        assert not here.wanted("a")
        ended.doubt()
        assert [one.wanted("a") for one in (ended, here, other)] == [True, True, False]
        here.begin("a", lambda: None)
        wait_until(lambda: not here.wanted("a"))
        assert here.wanted("b")
        assert Trials("fay, public").wanted("a")
        (file,) = tmp_path.iterdir()
        os.utime(file, (time.time() - 700,) * 2)
        assert not late.wanted("a")


def wait_until(condition: Callable[[], bool]) -> None:
    for _ in range(1000):
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError("it does not come")


def test_who_can_wait_waits(judge: Judge) -> None:
    """A replay or a backfill has an answer for each batch, or the reason."""
    for strike in (1, 2):
        with pytest.raises(Ended) as raised:
            judge(LOOPS, "dan", BAD)
        assert raised.value.strike == strike
        assert judge(WELL, "dan").cuts["real"].tolist() == [False, True]


@pytest.mark.parametrize("starved", [True, False])
def test_time_without_a_processor_is_nobodys_fault(starved: bool) -> None:
    """An answer that is late because the machine is busy is one; who sleeps is not waited for."""
    ours, theirs = socket.socketpair()
    begun, process = time.monotonic(), os.pidfd_open(os.getpid())
    later = threading.Timer(0.4, send, (theirs, DONE, b"well"))
    later.start()
    waited = (lambda: 0.0) if starved else (lambda: time.monotonic() - begun)
    patience = Patience(seconds=10.0, used=lambda: 0.0, most=0.1, waited=waited)
    if starved:
        assert receive_until(ours, process, patience) == (DONE, b"well")
    else:
        with pytest.raises(TimeoutError):
            receive_until(ours, process, patience)
    later.join()
    os.close(process)


def test_the_kernel_says_how_long_a_child_was_kept_from_a_processor(strict: Sandbox) -> None:
    """Beside four that take all of one processor a child that needs half a second has had to wait."""
    strict.start()
    assert strict._zygote is not None
    child = strict._zygote.fork(2**28)
    where = sorted(os.sched_getaffinity(0))[0]
    burn = f"import os\nos.sched_setaffinity(0, {{{where}}})\nprint(flush=True)\nwhile True: pass"
    others = [subprocess.Popen([sys.executable, "-c", burn], stdout=subprocess.PIPE) for _ in range(4)]
    try:
        for other in others:
            assert other.stdout is not None
            other.stdout.readline()
        os.sched_setaffinity(child._number, {where})
        waiting = child._waiting()
        text = text_of(WELL) + "\nimport time\nwhile time.process_time() < 0.4: pass\n"
        child.ask(LOAD, {"key": "k", "text": text, "file": "f.py", "function": "f"}, None, 5.0)
        assert waiting() < child.took + 0.1, "it never sleeps: it is at work, or kept from a processor"
    finally:
        for other in others:
            other.kill()
            other.wait()
        child.end()


def test_a_trial_gives_way(
    judge: Judge, strict: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its process is the last one to get a processor, also where the kernel shares them out by session."""
    children: set[tuple[bool, int, bool]] = set()
    sessions: set[tuple[bool, str]] = set()
    assert strict._zygote is not None
    fork = strict._zygote.fork

    def noted(memory: int, gently: bool = False) -> object:
        child = fork(memory, gently)
        number = child._number
        children.add((gently, os.getpriority(os.PRIO_PROCESS, number), os.getsid(number) == number))
        with suppress(FileNotFoundError):  # a kernel that does not group by session
            sessions.add((gently, Path(f"/proc/{number}/autogroup").read_text().split()[-1]))
        return child

    monkeypatch.setattr(strict._zygote, "fork", noted)
    with in_a_hurry(tmp_path):
        with pytest.raises(Ended):
            judge(LOOPS, "eve", BAD)
        until_judged(judge, WELL, "eve")
    assert children == {(False, os.getpriority(os.PRIO_PROCESS, 0), False), (True, 19, True)}
    assert sessions <= {(False, "0"), (True, "19")}
