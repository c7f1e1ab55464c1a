"""What a run says of itself, without a broker: which states last, what was said last, what is a problem."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.broker.partition import Partition
from pipeline.channels.state import FAILED, ChannelState, RunState, Stuck
from pipeline.clients.status.group import GroupStatus, PartitionStatus
from pipeline.clients.status.problems import notes_of, of_ended, of_group, of_run
from pipeline.clients.status.runs import as_told, runs_now
from pipeline.live.source import Progress
from pipeline.live.told.last_said import LastSaid
from pipeline.live.told.lasting import LONG_SECONDS, LongStates
from pipeline.live.told.state import edge_below
from pipeline.live.told.statistics import Failing, Statistics, Waited
from pipeline.worker.work import Report, Work

PLACES = [Partition("t", number) for number in range(3)]
NOW = 1_000_000.0
WELL = RunState(group="g", replica="0", host="h", pid=1, began=NOW - 500, at=NOW - 3, workers=2)


def progress(state: str, at: int) -> Progress:
    """Of a partition in this state; `at` is where it stands, and the flight of its batch."""
    end = at if state == "up to date" else at + 5
    where: dict[str, Any] = {} if state == "not known" else {"next": at, "end": end}
    return Progress(**where, flight=at if state in ("in flight", "retrying") else 0)


STATES = ("up to date", "waiting", "in flight", "retrying", "set aside", "not known")
LOOK = st.tuples(st.sampled_from(STATES), st.integers(1, 2))
"""A state, and where the partition stands."""


@given(st.lists(st.lists(LOOK, min_size=3, max_size=3), min_size=1, max_size=30), st.sampled_from([1.0, 4.0]))
def test_what_is_told_has_lasted_and_what_has_lasted_is_told(
    looks: list[list[tuple[str, int]]], step: float
) -> None:
    """The oracle goes back over what was seen. A batch that follows another is no state that lasts."""
    clock = [50.0]
    states = LongStates(lambda: clock[0])
    for number, look in enumerate(looks):
        now = dict(zip(PLACES, look, strict=True))
        told = states.look(
            {p: progress(state, at) for p, (state, at) in now.items()},
            {p: "why" for p, (state, _) in now.items() if state == "set aside"},
            {p: Failing(3, float(at), "why") for p, (state, at) in now.items() if state == "retrying"},
        )
        for_long = set()
        for place, seen in now.items():
            before = looks[: number + 1]
            alike = [_same(old[PLACES.index(place)], seen) for old in reversed(before)]
            lasted = step * ((alike.index(False) if False in alike else len(alike)) - 1)
            if seen[0] != "up to date" and lasted >= LONG_SECONDS:
                for_long.add((str(place), seen[0]))
        assert {(one.partition, one.state) for one in told} == for_long
        assert [one.since for one in told] == sorted(one.since for one in told)
        clock[0] += step


def _same(old: tuple[str, int], new: tuple[str, int]) -> bool:
    return old == new if new[0] in ("waiting", "in flight", "retrying") else old[0] == new[0]


def test_what_lasts_is_logged_once_a_minute_with_its_reason_and_when_it_is_over(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    clock = [0.0]
    states = LongStates(lambda: clock[0])
    for second in range(100):
        clock[0] = float(second)
        failing = {p: Failing(second, 1.0, "the broker is away") for p in PLACES if second < 90}
        states.look(
            {p: progress("retrying" if p in failing else "up to date", 1) for p in PLACES}, {}, failing
        )
    assert caplog.messages == [
        "3 partitions are retrying for 10 s, such as t/0: the broker is away",
        "3 partitions are retrying for 70 s, such as t/0: the broker is away",
        "no partition is retrying any more (the broker is away), after 90 s",
    ]


def test_attempts_that_go_wrong_are_counted_until_one_is_done() -> None:
    statistics = Statistics()
    work = Work(PLACES[0], 0, 5, 1, False, "r", 1, "g", b"", {}, b"", "v")
    statistics.add(Report(work, "retry", message="first"))
    since = statistics.failing[PLACES[0]].since
    statistics.add(Report(work, "died", culprit="slow"))
    assert statistics.failing[PLACES[0]] == Failing(2, since, "filter slow was running")
    statistics.add(Report(replace(work, partition=PLACES[1]), "committed"))
    assert PLACES[0] in statistics.failing, "another partition's"
    statistics.add(Report(work, "committed"))
    assert not statistics.failing


@given(st.lists(st.floats(0, 299), min_size=1, max_size=40), st.sampled_from([0.5, 0.99]))
def test_a_share_of_batches_within_some_seconds(seconds: list[float], share: float) -> None:
    """At most an edge of the histogram away from the quantile of what was counted, by numpy."""
    waited = Waited()
    for one in seconds:
        waited.add(one)
    told = edge_below(waited.counts, share)
    exact = np.quantile(seconds, share, method="inverted_cdf")
    assert told is not None
    assert told == min(edge for edge in Waited.EDGES if edge >= exact)


def test_what_took_longer_than_all_that_is_told_apart_is_no_figure() -> None:
    waited = Waited()
    assert edge_below(waited.counts, 0.5) is None
    waited.add(1000.0)
    assert edge_below(waited.counts, 0.5) is None


def test_the_last_news_are_kept_and_what_is_said_again_stands_once() -> None:
    log, other = (
        logging.getLogger("pipeline.live.source"),
        logging.getLogger("pipeline.live.in_force.external"),
    )
    other.setLevel("INFO")
    with LastSaid() as said:
        for number in range(30):
            log.warning("%s: %s", "the broker is away", number)
        log.info("not of interest")
        other.info("%s: version %s from now on", "ned", "2")
        logging.getLogger("pipeline.live.in_force").info("channel young: on")  # stands in its registry
        log.error("topic %s was deleted", "t")
        log.warning("%s: %s", "the broker is away", 30)
    log.warning("after the end")
    words = [change.words for change in said.changes]
    assert words == ["ned: version 2 from now on", "topic t was deleted", "the broker is away: 30"]
    with LastSaid() as said:
        for number in range(100):
            log.warning("number %d", number)
    assert [change.words for change in said.changes][-1] == "number 99"
    assert len(said.changes) < 20


def test_a_later_version_may_say_more() -> None:
    told = RunState.model_validate_json(WELL.model_dump_json()[:-1] + ', "colour": "blue"}')
    assert told == WELL


STUCK = Stuck(partition="t/0", state="retrying", since=NOW - 100, attempts=7, why="its worker ended")
SET_ASIDE = Stuck(partition="t/0", state="set aside", since=NOW - 13, why="denied")
SPEAKING = [
    (WELL, ""),
    (WELL.model_copy(update={"at": NOW - 70}), "has said nothing of itself for 70 s"),
    (WELL.model_copy(update={"workers": 0}), "has no worker"),
    (WELL.model_copy(update={"stuck": (STUCK,)}), "t/0 is retrying for 97 s, 7 attempts (since "),
    (WELL.model_copy(update={"stuck": (STUCK,)}), "UTC): its worker ended"),
    (WELL.model_copy(update={"stuck": (STUCK.model_copy(update={"since": NOW - 20}),)}), ""),
    (WELL.model_copy(update={"stuck": (STUCK.model_copy(update={"state": "in flight"}),)}), ""),
    (
        WELL.model_copy(
            update={"stuck": (Stuck(partition="t/0", state="set aside", since=NOW, why="denied"),)}
        ),
        "t/0 is set aside for ",
    ),
    (WELL.model_copy(update={"lost": {"t/0": "offsets 1 to 5"}}), "t/0: offsets 1 to 5"),
    (
        WELL.model_copy(update={"channels": {"c": ChannelState(suspended="it raised")}}),
        "channel c is suspended: it raised",
    ),
    (
        WELL.model_copy(update={"channels": {"c": ChannelState(topic="channel.c", delivered=5)}}),
        "topic channel.c of channel c was deleted, after 5 alerts",
    ),
    (WELL.model_copy(update={"channels": {"c": ChannelState(topic="channel.c")}}), ""),
]


@pytest.mark.parametrize(("run", "words"), SPEAKING)
def test_what_a_run_says_is_a_problem_or_is_none(run: RunState, words: str) -> None:
    problems = of_run(run, {"t"}, 60.0, NOW)
    assert bool(problems) == bool(words)
    assert words in " ".join(problems)


def test_a_run_that_is_gone_is_a_problem_for_a_day_unless_it_was_told_to_end() -> None:
    (words,) = of_ended(WELL, NOW)
    assert "gone without a word" in words
    failed = WELL.model_copy(update={"ended": f"{FAILED}no scheduler"})
    (words,) = of_ended(failed, NOW)
    assert "it failed: no scheduler" in words
    assert not of_ended(WELL.model_copy(update={"ended": "it was stopped"}), NOW)
    assert not of_ended(WELL, NOW + 2 * 86_400)


def test_only_a_run_that_lives_says_how_partitions_are() -> None:
    one = PartitionStatus(Partition("t", 0), "waiting", 5, 9, 4, age=3.0)
    group = GroupStatus("g", ["0"], [one, PartitionStatus(Partition("t", 1), "made again", 5, 0, 5)])
    run = WELL.model_copy(update={"stuck": (STUCK, STUCK.model_copy(update={"partition": "t/1"}))})
    told = as_told(group, [run]).partitions
    assert [each.state for each in told] == ["retrying", "made again"]
    assert (told[0].attempts, told[0].why, told[0].age) == (7, "its worker ended", 3.0)
    for gone in (run.model_copy(update={"ended": "it was stopped"}), run.model_copy(update={"replica": "1"})):
        assert runs_now([gone], [group]) == []
        assert as_told(group, [gone]) == group


def test_many_sentences_of_one_kind_are_shortened_and_what_is_no_problem_is_noted() -> None:
    odd = [PartitionStatus(Partition("t", n), "beyond the end", 9, 5, 4) for n in range(12)]
    problems = of_group(GroupStatus("g", ["0"], odd), 60.0)
    assert len(problems) == 6
    assert problems[-1] == "group g: and 7 partitions more"
    raised = {"c": ChannelState(raised=3), "d": ChannelState(remark="more than usual")}
    run = WELL.model_copy(update={"topics": ("t", "u"), "channels": raised})
    notes = notes_of(["g", "h"], [GroupStatus("g", ["0"])], [run], {"t"}, NOW)
    assert notes == [
        "group h has never kept anything here",
        "topic u, which replica 0 of group g had, was deleted since",
        "channel c: its filter raised on 3 alerts (`zads dead-letters list` shows them)",
        "channel d: more than usual",
    ]
