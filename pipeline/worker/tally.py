"""What a batch came to, counted for the ledger: by night, for its source and for each channel."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from confluent_kafka import TIMESTAMP_NOT_AVAILABLE, Message

from pipeline.channels.counts import ByChannel, ChannelCounts, SourceCounts
from pipeline.channels.ledger import Page, night_of_arrival, night_of_topic
from pipeline.worker.deliver import UNREADABLE, Outgoing
from pipeline.worker.judging.verdicts import Verdicts


class Count(NamedTuple):
    """Counts those of some records, by their place in the batch, that are of one night.

    nights: of each record. of: the night. only: whether all records are of it.
    """

    nights: Sequence[str]
    of: str
    only: bool

    def __call__(self, some: Collection[int]) -> int:
        """How many of some records are of the night."""
        return len(some) if self.only else sum(self.nights[i] == self.of for i in some)

    def weigh(self, sizes: Mapping[int, int]) -> int:
        """Bytes of the records that are of the night. sizes: record -> bytes."""
        return sum(size for i, size in sizes.items() if self.only or self.nights[i] == self.of)


def tally(
    topic: str,
    verdicts: Verdicts,
    records: Sequence[Message],
    outgoing: Outgoing,
    lost: int = 0,
    first: int = 0,
) -> dict[str, Page]:
    """Night -> what became of its records.

    Parameters
    ----------
    topic : str
        That the records are of.
    verdicts : Verdicts
        On them.
    records : sequence of Message
        All that were read.
    outgoing : Outgoing
        That has produced them: what was delivered, and what could not be.
    lost : int
        Offsets before them that can no longer be read; of the night of the topic or else of now.
    first : int
        Records before this one were counted before.

    Returns
    -------
    dict
    """
    nights = [*[""] * first, *nights_of(topic, verdicts, records)[first:]]
    every = sorted(set(nights))
    pages = {
        night: _page(Count(nights, night, len(every) == 1), len(records), verdicts, outgoing)
        for night in every
        if night
    }
    if lost:
        page = pages.setdefault(night_of_topic(topic) or night_of_arrival(None), Page())
        page.source = page.source._replace(lost=lost)
    return pages


def nights_of(topic: str, verdicts: Verdicts, records: Sequence[Message]) -> list[str]:
    """The night of each record: that of its topic, else its packet's, else the one in which it arrived.

    Parameters
    ----------
    topic
        That the records are of.
    verdicts
        On them: with the nights of the packets.
    records
        All that were read.
    """
    if named := night_of_topic(topic):
        return [named] * len(records)
    return [verdicts.nights.get(i) or _arrived(record) for i, record in enumerate(records)]


def _arrived(record: Message) -> str:
    kind, written = record.timestamp()
    return night_of_arrival(None if kind == TIMESTAMP_NOT_AVAILABLE else written)


def _page(count: Count, records: int, verdicts: Verdicts, outgoing: Outgoing) -> Page:
    received = count(range(records))
    unreadable = {refusal.index for refusal in verdicts.refused if not refusal.channel}
    source = SourceCounts(received, count(verdicts.judged), count(unreadable), count(verdicts.strangers))
    unseen = count({one.index for one in verdicts.refused if one.reason == UNREADABLE})
    of = ByChannel()
    readers = outgoing.reader_names
    of.add_to_each(readers, ChannelCounts(received, not_for_it=received - unseen, gaps=unseen))
    for names, packets in verdicts.seen:
        saw = count(packets)
        of.add_to_each(names, ChannelCounts(rejected=saw, not_for_it=-saw))
    for name in _busy(verdicts, outgoing).intersection(readers):
        of[name] = _channel(name, count, received, unseen, verdicts, outgoing)
    return Page(source, of)


def _busy(verdicts: Verdicts, outgoing: Outgoing) -> set[str]:
    """The channels of which more is to be said than what they saw."""
    some = {*verdicts.gaps, *(one.channel for one in (*verdicts.refused, *outgoing.refused))}
    for by_channel in (verdicts.matches, verdicts.kept, outgoing.delivered, outgoing.stopped, outgoing.sizes):
        some |= by_channel.keys()
    return some


def _channel(
    name: str, count: Count, received: int, unseen: int, verdicts: Verdicts, outgoing: Outgoing
) -> ChannelCounts:
    """One channel's counts. unseen: records that ended their workers: each is a gap of every channel."""
    if name in verdicts.gaps:
        return ChannelCounts(received, gaps=received)
    passed = {match.index for match in verdicts.matches.get(name, ())}
    failed = {one.index for one in verdicts.refused if one.channel == name} - passed
    undeliverable = {one.index for one in outgoing.refused if one.channel == name and one.stage == "publish"}
    saw = sum(count(packets) for packets in verdicts.seen_by(name))
    return ChannelCounts(
        received,
        passed=count(passed),
        rejected=saw - count(verdicts.kept.get(name, ())),
        not_for_it=received - saw - unseen,
        failed=count(failed),
        gaps=unseen,
        delivered=count([match.index for match in outgoing.delivered.get(name, ())]),
        undeliverable=count(undeliverable),
        limited=count(outgoing.stopped.get(name, ())),
        bytes=count.weigh(outgoing.sizes.get(name, {})),
    )
