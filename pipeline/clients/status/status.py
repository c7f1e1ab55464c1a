"""Is tonight all right? From any machine that reaches the broker.

Where groups stand, what waits and what channels miss is asked of Kafka, so it is told also when nothing runs.
What only a run can know it has written into zads.state, at most some seconds ago.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient, OffsetSpec

from pipeline.broker.client import BrokerError, admin_client, sentence, topic_names
from pipeline.broker.dead_letters import TOPIC as DEAD_LETTERS
from pipeline.broker.topics import offsets, partitions_of
from pipeline.channels.config import RunConfig
from pipeline.channels.registry import difference, read_registry
from pipeline.channels.state import Change, RunState, states
from pipeline.clients.ranked_nights import lacking
from pipeline.clients.status.group import GroupStatus, group_status
from pipeline.clients.status.problems import not_yet, notes_of, of_ended, of_group, of_run, shortened
from pipeline.clients.status.runs import as_told, runs_now
from pipeline.worker.backfill import gaps_of

_CHANGES_SECONDS = 86_400.0
_MOST_CHANGES = 10


@dataclass
class Status:
    """Whether all is well.

    at: when this was asked (Unix time, s). runs: what replicas of the groups have said last, also of those
    that have ended. gaps: channel -> open gaps. dead_letters: at most so many there are. changes: of the last
    day, the oldest first. problems: a sentence for each; notes: what is not wrong now, and may not be meant.
    """

    at: float = field(default_factory=time.time)
    groups: list[GroupStatus] = field(default_factory=list)
    runs: list[RunState] = field(default_factory=list)
    gaps: Counter[str] = field(default_factory=Counter)
    dead_letters: int = 0
    changes: list[Change] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def status(config: RunConfig, groups: Iterable[str], patience: float = 60.0) -> Status:
    """How the groups stand in the topics of `config`, how their runs are, and what channels miss.

    Parameters
    ----------
    config : RunConfig
        The broker and the topics.
    groups : iterable of str
        Consumer groups; of those that have never committed only the first is told.
    patience : float
        A record may wait so long before that is a problem, s.

    Returns
    -------
    Status

    Raises
    ------
    BrokerError
        When no broker answers.
    """
    bootstrap, kafka, asked = config.bootstrap_servers, config.client, list(groups)
    every = topic_names(bootstrap, **kafka)
    topics = topic_names(bootstrap, config.topics, **kafka)
    admin = admin_client(bootstrap, **kafka)
    found = Status(runs=states(bootstrap, asked, **kafka))
    try:
        for number, group in enumerate(asked):
            stood = as_told(group_status(config, admin, group, topics, patience), found.runs)
            if number == 0 or any(one.offset is not None for one in stood.partitions):
                found.groups.append(stood)
        found.gaps = Counter(gap.channel for gap in gaps_of(config))
        found.dead_letters = _records(admin, DEAD_LETTERS)
    except KafkaException as error:
        raise BrokerError(f"the broker at {bootstrap} does not say: {sentence(error.args[0])}") from None
    found.changes = _changes(config, found.runs)
    now = time.time()
    found.notes = notes_of(asked, found.groups, found.runs, every, now)
    found.problems = [words for group in found.groups for words in of_group(group, patience)]
    running = runs_now(found.runs, found.groups)
    for run in running:
        found.problems += of_run(run, every, patience, now)
        found.notes += not_yet(run, patience)
    for run in (run for run in found.runs if run not in running):
        others_run = any(one.group == run.group for one in running)
        (found.notes if others_run else found.problems).extend(of_ended(run, now))
    missed = [
        f"channel {name} misses records: {gaps} (`zads channel backfill {name}` brings what is there)"
        for name, count in found.gaps.items()
        if (gaps := f"{count} open gap" + "s" * (count != 1))
    ]
    found.problems += shortened(missed, "channels that miss records")
    late = [str(one) for one in lacking(config) if one.late]
    found.problems += shortened(late, "nights of ranked channels")
    return found


def _records(admin: AdminClient, topic: str) -> int:
    """At most so many are in a topic: transaction markers have offsets too."""
    places = partitions_of(admin, [topic])
    if not places:
        return 0
    beginnings = offsets(admin, places, OffsetSpec.earliest())
    ends = offsets(admin, places, OffsetSpec.latest())
    return sum(ends[place] - beginnings[place] for place in places)


def _changes(config: RunConfig, runs: Iterable[RunState]) -> list[Change]:
    """The last things that the runs have said, and the last revisions of channels."""
    recent = time.time() - _CHANGES_SECONDS
    history = read_registry(config.bootstrap_servers, **config.client).history
    before = {(one.name, one.revision): one for one in history}
    revised = [
        Change(
            at=datetime.fromisoformat(one.when).timestamp(),
            words=f"channel {one.name}: {one.who or 'somebody'}"
            f" {difference(before.get((one.name, one.revision - 1)), one)}"
            + (f" ({one.why})" if one.why else ""),
        )
        for one in history[-_MOST_CHANGES:]
        if one.when
    ]
    both = sorted([*revised, *(change for run in runs for change in run.changes)], key=lambda one: one.at)
    return [one for one in both if one.at > recent][-_MOST_CHANGES:]
