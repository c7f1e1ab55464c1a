"""Delivering what a channel missed while it was suspended, of whichever scope its filter is.

What a channel of whole exposures missed is judged as zads.exposures says that it was judged then: the members
of an exposure together, a late record beside those before it. The gaps of one such judgement are filled in
one transaction.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from confluent_kafka import Message

from pipeline.broker.client import admin_client
from pipeline.broker.partition import Partition
from pipeline.broker.topics import topic_ids
from pipeline.channels.channel import Channel
from pipeline.channels.config import RunConfig
from pipeline.channels.gaps import Gap
from pipeline.clients.exposures import closings
from pipeline.live.exposures.gathering import Key, Place
from pipeline.worker import backfill as of_alerts
from pipeline.worker.backfill import Backfill, Backfilled, gaps_of

Progress = Callable[[int, int], None]


def backfill(
    config: RunConfig, channel: Channel, on_progress: Progress = lambda done, total: None
) -> Backfilled:
    """Deliver everything that a channel missed, with the channel as it is now, each alert once.

    A gap on which the filter still fails stays open.

    Parameters
    ----------
    config
        The configuration, with the broker.
    channel
        The channel.
    on_progress
        Called with the number of gaps done and of all gaps.

    Raises
    ------
    BrokerError
        When the broker does not answer.
    """
    if channel.filter.scope == "alert":
        return of_alerts.backfill(config, channel, on_progress)
    work = Backfill(config, channel)
    work.take()
    gaps = gaps_of(config, channel.name)
    admin = admin_client(config.bootstrap_servers, **config.client)
    ids = topic_ids(admin, sorted({gap.topic for gap in gaps}))
    missed = {
        (gap.topic, Place(gap.partition, gap.low)): gap
        for gap in gaps
        if gap.high == gap.low + 1 and gap.is_of(ids.get(gap.topic))
    }
    singles = set(map(id, missed.values()))
    for topic, judged, before in _judgements(config, ids):
        mine = [missed.pop((topic, place)) for place in judged if (topic, place) in missed]
        if mine:
            own = {Place(gap.partition, gap.low) for gap in mine}
            _fill(work, topic, mine, [*before, *(place for place in judged if place not in own)])
            on_progress(work.done.gaps + work.done.left, len(gaps))
    rest = [gap for gap in gaps if id(gap) not in singles or gap in missed.values()]
    for gap in rest:
        work.leave([gap], f"{gap.source} [{gap.low}, {gap.high}): no judgement of these records is recorded")
    work.close()
    return work.done


def _judgements(
    config: RunConfig, ids: Mapping[str, str]
) -> Iterator[tuple[str, tuple[Place, ...], tuple[Place, ...]]]:
    """Topic, the records judged, and those judged before in their exposure where they came late.

    ids: of the topics that are there now.
    """
    before: dict[Key, tuple[Place, ...]] = {}
    for _, closing in closings(config):
        if ids.get(closing.key.topic) == closing.topic_id:
            known = before.get(closing.key, ())
            yield closing.key.topic, closing.places, known if closing.reason == "late" else ()
            before[closing.key] = (*known, *closing.places)


def _fill(work: Backfill, topic: str, gaps: Sequence[Gap], before: Sequence[Place]) -> None:
    """The gaps of one judgement."""
    places = [*before, *(Place(gap.partition, gap.low) for gap in gaps)]
    found = _read(work, topic, places, gaps)
    if found is None:
        return
    if gone := [gap for gap in gaps if Place(gap.partition, gap.low) not in found]:
        work.leave(gaps, f"{gone[0].source} [{gone[0].low}, {gone[0].high}): it is not there any more")
        return
    beside = [found[place] for place in before if place in found]
    own = [found[Place(gap.partition, gap.low)] for gap in gaps]
    work.fill_together(gaps, [*beside, *own], len(beside))


def _read(
    work: Backfill, topic: str, places: Iterable[Place], gaps: Sequence[Gap]
) -> dict[Place, Message] | None:
    """The records at some places, as far as they are there; None when a partition cannot be read."""
    wanted: dict[int, list[int]] = defaultdict(list)
    for place in places:
        wanted[place.partition].append(place.offset)
    found: dict[Place, Message] = {}
    for number, offsets in wanted.items():
        records = work.read(Partition(topic, number), min(offsets), max(offsets) + 1, gaps)
        if records is None:
            return None
        found |= {Place(number, record.offset() or 0): record for record in records}
    return found
