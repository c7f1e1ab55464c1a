"""What needs a person, and what may not be meant: a sentence each."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Iterator

from pipeline.channels.state import FAILED, STATE_SECONDS, RunState, Stuck
from pipeline.clients.status.group import GroupStatus, PartitionStatus

_MOST_PROBLEMS = 5
_SILENT_SECONDS, _DAY_SECONDS = 6 * STATE_SECONDS, 86_400.0
_WELL = ("up to date", "waiting", "in flight")
_BY_RUN = ("retrying", "set aside", "not known")
"""States of a partition that its run tells, and of which it knows more."""


def of_group(group: GroupStatus, patience: float) -> list[str]:
    """What is wrong by what Kafka says.

    Parameters
    ----------
    group
        The group.
    patience
        A record may wait so long, s.
    """
    problems, of = [], f"group {group.group}: "
    if group.lag and not group.replicas:
        problems.append(f"nobody runs for group {group.group}, and {group.lag:,} records wait")
    if group.age is not None and group.age > patience:
        problems.append(f"{of}a record has waited for {group.age:,.0f} s")
    odd = [one for one in group.partitions if one.state not in (*_WELL, *_BY_RUN, "behind")]
    told = [f"{of}{one.partition} is {one.state} ({_where(one)})" for one in odd]
    return problems + shortened(told, "partitions", of)


def _where(one: PartitionStatus) -> str:
    return one.why or f"offset {one.offset}, end {one.end}"


def of_run(run: RunState, topics: Collection[str], patience: float, now: float) -> list[str]:
    """What is wrong by what a replica that runs has said of itself.

    Parameters
    ----------
    run
        The replica's last word.
    topics
        The topics there are.
    patience
        A partition may be retried so long, s.
    now
        Unix time, s.
    """
    me, problems = run.named, []
    if now - run.at > _SILENT_SECONDS:
        problems.append(
            f"{me} (process {run.pid} on {run.host}) is in the group, and has said nothing of itself for"
            f" {now - run.at:,.0f} s: it hangs, or may not write into zads.state, and its log says which"
        )
    if not run.workers:
        problems.append(f"{me} has no worker")
    problems += shortened([f"{me}: {words}" for words in _stuck(run, patience)], "partitions", f"{me}: ")
    lost = [f"{me}: {place}: {what}" for place, what in run.lost.items()]
    problems += shortened(lost, "partitions that lost records", f"{me}: ")
    suspended = [
        f"channel {name} is suspended: {why} (when that is mended: `zads channel backfill {name}`)"
        for name, why in run.suspended.items()
    ]
    problems += shortened(suspended, "suspended channels")
    gone = [
        f"topic {one.topic} of channel {name} was deleted, after {one.delivered:,} alerts were delivered to"
        " it: its readers have lost those that they had not read, and a run that is started again makes it"
        for name, one in run.channels.items()
        if one.delivered and one.topic and one.topic not in topics
    ]
    return problems + shortened(gone, "deleted topics of channels")


def _stuck(run: RunState, patience: float) -> Iterator[str]:
    """Sentences about partitions that need a person, without the replica's name."""
    for one in run.stuck:
        if one.state == "set aside" or (one.state in _BY_RUN and run.at - one.since > patience):
            yield _lasts(run, one)


def _lasts(run: RunState, one: Stuck) -> str:
    attempts = f", {one.attempts} attempts" if one.attempts else ""
    why = f": {one.why}" if one.why else ""
    since = f"for {run.at - one.since:,.0f} s{attempts} (since {clock(one.since)})"
    return f"{one.partition} is {one.state} {since}{why}"


def not_yet(run: RunState, patience: float) -> list[str]:
    """What a replica says of partitions that are stuck, and may go on by themselves.

    Parameters
    ----------
    run
        The replica's last word.
    patience
        A partition may be retried so long, s.
    """
    problems = set(_stuck(run, patience))
    told = [words for one in run.stuck if (words := _lasts(run, one)) not in problems]
    return shortened(told, "partitions that are stuck")


def of_ended(run: RunState, now: float) -> list[str]:
    """How a replica has ended that was not told to: within a day.

    Parameters
    ----------
    run
        The replica's last word.
    now
        Unix time, s.
    """
    me, last = f"{run.named} (process {run.pid} on {run.host})", now - run.at
    if last > _DAY_SECONDS:
        return []
    if not run.ended:
        return [f"{me} is gone without a word; it was heard of last {ago(last)}: start it again"]
    return [f"{me} ended {ago(last)}: {run.ended}"] if run.ended.startswith(FAILED) else []


def notes_of(
    asked: Iterable[str],
    groups: Collection[GroupStatus],
    runs: Iterable[RunState],
    topics: Collection[str],
    now: float,
) -> list[str]:
    """What is not wrong now, and may not be meant.

    Parameters
    ----------
    asked
        The groups that were asked for.
    groups
        Those of them that there are.
    runs
        What their replicas have said last.
    topics
        The topics there are.
    now
        Unix time, s.
    """
    idle = [one.group for one in groups if not one.replicas and not one.lag]
    told = {one.group for one in groups}
    notes = [f"nobody runs for group {group}: what comes from now on waits" for group in idle]
    notes += [f"group {group} has never kept anything here" for group in asked if group not in told]
    return notes + [words for run in runs for words in _notes_of(run, topics, now)]


def _notes_of(run: RunState, topics: Collection[str], now: float) -> Iterator[str]:
    me = run.named
    if run.ended and not run.ended.startswith(FAILED):
        yield f"{me} ended {ago(now - run.at)}: {run.ended}"
    gone = [topic for topic in run.topics if topic not in topics]
    yield from shortened([f"topic {topic}, which {me} had, was deleted since" for topic in gone], "topics")
    raised = [
        f"channel {name}: its filter raised on {one.raised:,} alerts (`zads dead-letters list` shows them)"
        for name, one in run.channels.items()
        if one.raised and not one.suspended
    ]
    yield from shortened(raised, "channels whose filters raised")
    remarks = [f"channel {name}: {one.remark}" for name, one in run.channels.items() if one.remark]
    yield from shortened(remarks, "channels that surprise")


def shortened(sentences: list[str], what: str, of: str = "") -> list[str]:
    """The first of some sentences, and how many more there are.

    Parameters
    ----------
    sentences
        Of one kind.
    what
        They are about, in the plural.
    of
        Begins the sentence about the rest.
    """
    more = len(sentences) - _MOST_PROBLEMS
    return sentences if more <= 0 else [*sentences[:_MOST_PROBLEMS], f"{of}and {more} {what} more"]


def clock(at: float) -> str:
    """A Unix time as the UTC time of day, as in the logs."""
    return f"{time.strftime('%H:%M:%S', time.gmtime(at))} UTC"


def ago(seconds: float) -> str:
    """A time span in words."""
    if seconds < 120:
        return f"{max(seconds, 0):,.0f} s ago"
    return f"{seconds / 60:,.0f} min ago" if seconds < 7_200 else f"{seconds / 3_600:,.0f} h ago"
