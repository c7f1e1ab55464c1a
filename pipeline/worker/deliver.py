"""What one batch sends: alerts to their channels, dead letters, gaps, and the channel set in force."""

from __future__ import annotations

import json
import math
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from confluent_kafka import Message

from filters.limits import Passing
from filters.sandbox.uploaded import Uploaded
from pipeline.broker.client import MESSAGE_MAX_BYTES
from pipeline.broker.dead_letters import Stage, dead_letter_record
from pipeline.broker.paced import Paced
from pipeline.broker.partition import Partition
from pipeline.broker.reading.ranges import epoch_of
from pipeline.channels.channel import Channel, ChannelSet
from pipeline.channels.gaps import APPLIED_TOPIC, Counted, Gap, gap_of
from pipeline.worker.holding.position import Standing
from pipeline.worker.holding.remembered import NOTHING_REMEMBERED, Admission
from pipeline.worker.judging.verdicts import Match, Refusal, Verdicts
from pipeline.worker.work import Work
from schemas.avro.annotate import annotated
from schemas.avro.framing import SchemaSource
from schemas.avro.rewrite import rewrite
from schemas.errors import PacketError
from schemas.surveys.registry import survey_named

_RECORD_OVERHEAD = 1_000


UNREADABLE = "unreadable"
"""Why a record was dead-lettered that ended its workers: no channel saw it, and a backfill may bring it."""


_COUNTED: dict[Stage, Counted] = {"filter": "failed", "publish": "undeliverable", "decode": "gaps"}


class Outgoing:
    """Turns the verdicts on a batch into Kafka records, within a transaction of the caller.

    Parameters
    ----------
    channels
        The channels in force.
    topic
        That the records are of.
    verdicts
        What the channels said of it.
    records
        Its records.
    schemas
        Where the schemas of packets with Confluent framing are looked up.
    admission
        What the limits of the channels remember; nothing where left out.
    topic_id
        Of the topic; "": it is not known.

    Attributes
    ----------
    readers, reader_names
        The channels that read the source.
    verdicts
        What the channels said of it.
    delivered
        Channel -> what went to its topic.
    refused
        What went to the dead letters, from any stage.
    gaps
        Channels that miss something.
    stopped
        Channel -> which records its limits stopped.
    sizes
        Channel -> record -> bytes that were delivered.
    """

    def __init__(
        self,
        channels: ChannelSet,
        topic: str,
        verdicts: Verdicts,
        records: Sequence[Message],
        schemas: SchemaSource | None = None,
        admission: Admission | None = None,
        topic_id: str = "",
    ) -> None:
        self._topic_id = topic_id
        self.verdicts, self._records, self._schemas = verdicts, records, schemas
        self._channels, self._external = channels.by_name, channels.external_headers
        self.readers, self.reader_names = channels.readers(topic), channels.reader_names(topic)
        self._rewritten: dict[tuple[int, tuple[str, ...], bool], bytes] = {}
        self._hidden: dict[str, set[int]] = {}
        self._admission = admission or Admission(NOTHING_REMEMBERED)
        self.delivered: dict[str, list[Match]] = {}
        self.refused: list[Refusal] = []
        self.gaps: set[str] = set()
        self.stopped: dict[str, list[int]] = {}
        self.sizes: dict[str, dict[int, int]] = {}

    @property
    def limited(self) -> dict[str, int]:
        """Channel -> how many alerts its limits stopped."""
        return {name: len(found) for name, found in self.stopped.items()}

    @property
    def hidden(self) -> dict[str, int]:
        """Fields that were cut out of what public channels got, with the number of packets."""
        return {path: len(packets) for path, packets in self._hidden.items()}

    def produce(self, paced: Paced, *ranges: tuple[Partition, int, int]) -> None:
        """Send matches, dead letters, and the gaps that channels have in this batch.

        Parameters
        ----------
        paced
            The producer, in a transaction.
        ranges
            The offsets that the batch is of: a partition, the first, and the one after the last.

        Raises
        ------
        NotTaken
            When the broker does not take a record.
        """
        self.refused = list(self.verdicts.refused)
        for name, matches in self.verdicts.matches.items():
            self.delivered[name] = []
            for match in matches:
                self._admit(paced, self._channels[name], match)
        for record in self._admission.records():
            paced.produce(**record)
        for refusal in self.refused:
            paced.produce(**self._dead_letter(refusal))
        gaps = self._gaps(ranges)
        epochs = _epochs(self._records) if gaps else {}
        for gap in gaps:
            epoch = _epoch_below(epochs.get(gap.source, []), gap.high)
            paced.produce(**replace(gap, topic_id=self._topic_id, epoch=epoch).record())
            self.gaps.add(gap.channel)

    def _admit(self, paced: Paced, channel: Channel, match: Match) -> None:
        """Deliver one alert, if the channel's limits let it through."""
        _, milliseconds = self._records[match.index].timestamp()
        one = Passing(
            match.candid, match.objectId, 1000 * milliseconds, math.nan if match.jd is None else match.jd
        )
        changed = self._admission.admits(channel, one)
        if changed is None:
            self.stopped.setdefault(channel.name, []).append(match.index)
            return
        if refusal := self._deliver(paced, channel, match):
            self.refused.append(refusal)
            return
        self._admission.delivered(channel, changed)
        self.delivered[channel.name].append(match)

    def _deliver(self, paced: Paced, channel: Channel, match: Match) -> Refusal | None:
        """Send one alert to its channel; what cannot be sent comes back as a refusal."""
        source = self._records[match.index]
        try:
            value = self._value(channel, match.index)
            if channel.annotate:
                value = annotated(value, channel.name, match.values, channel.units, self._schemas)
        except PacketError as error:
            return _undelivered(channel, match, error.reason, str(error))
        if len(value) + _RECORD_OVERHEAD > MESSAGE_MAX_BYTES:
            return _undelivered(
                channel, match, "oversize", f"{len(value):,} bytes, more than a record may have"
            )
        headers = [*_headers(channel, match, source), *self._external[channel.name]]
        if match.values:
            headers.append(("values", json.dumps(match.values).encode()))
        paced.produce(topic=channel.topic, value=value, key=source.key(), headers=headers)
        self.sizes.setdefault(channel.name, {})[match.index] = len(value)
        return None

    def _value(self, channel: Channel, index: int) -> bytes:
        """The packet's own bytes, unless fields are dropped or history rows must go."""
        raw = self._records[index].value()
        public_only = channel.public and index in self.verdicts.mixed
        if channel.public:
            for path in self.verdicts.unlisted.get(index, ()):
                self._hidden.setdefault(path, set()).add(index)
        if not channel.drop and not public_only:
            return raw
        wanted = (index, channel.drop, public_only)
        if wanted not in self._rewritten:
            self._rewritten[wanted] = rewrite(
                raw, drop=channel.drop, public_only=public_only, schemas=self._schemas
            )
        return self._rewritten[wanted]

    def _dead_letter(self, refusal: Refusal) -> dict[str, Any]:
        record = self._records[refusal.index]
        return dead_letter_record(
            stage=refusal.stage,
            reason=refusal.reason,
            detail=refusal.detail,
            topic=record.topic(),
            partition=record.partition(),
            offset=record.offset(),
            value=record.value(),
            channel=refusal.channel or None,
            candid=refusal.candid,
            objectId=refusal.objectId or None,
            largest=MESSAGE_MAX_BYTES,
        )

    def _gaps(self, ranges: Sequence[tuple[Partition, int, int]]) -> list[Gap]:
        """What channels miss here: whole batches, and single alerts on which their filter failed."""
        told = {
            one.channel: one.traceback
            for one in self.verdicts.failures
            if isinstance(self._channels[one.channel].filter.function, Uploaded)
        }
        whole = [
            replace(gap_of(self._channels[name], *span, reason, counted="gaps"), traceback=told.get(name, ""))
            for name, reason in self.verdicts.gaps.items()
            for span in ranges
        ]
        single = [
            gap_of(self._channels[one.channel], *self._span(one), one.detail, _COUNTED[one.stage])
            for one in self.refused
            if one.channel
        ]
        unread = [
            gap_of(channel, *self._span(refusal), refusal.detail, counted="gaps")
            for refusal in self.refused
            if refusal.reason == UNREADABLE
            for channel in self.readers
        ]
        return [*whole, *single, *unread]

    def _span(self, refusal: Refusal) -> tuple[Partition, int, int]:
        return span_of(self._records[refusal.index])


def _epochs(records: Iterable[Message]) -> dict[Partition, list[tuple[int, int]]]:
    """Offset and leader epoch of each record of each partition, in order."""
    found: dict[Partition, list[tuple[int, int]]] = defaultdict(list)
    for record in records:
        source, offset, _ = span_of(record)
        found[source].append((offset, epoch_of(record)))
    return found


def _epoch_below(epochs: Sequence[tuple[int, int]], high: int) -> int:
    """The leader epoch of the last record below an offset; -1: it is not known."""
    below = bisect_left(epochs, (high, -1))
    return epochs[below - 1][1] if below else -1


def span_of(record: Message) -> tuple[Partition, int, int]:
    """The range that holds one record."""
    offset = record.offset()
    assert offset is not None
    return Partition(record.topic() or "", record.partition() or 0), offset, offset + 1


def loss_records(
    channels: ChannelSet, source: Partition, stood: Standing, topic_id: str
) -> list[dict[str, Any]]:
    """Arguments for Producer.produce that note for each channel what can no longer be read.

    Parameters
    ----------
    channels
        The channels in force.
    source
        The partition.
    stood
        Where the group stands in it, and what is lost.
    topic_id
        Of its topic.
    """
    lost = [gap_of(c, source, stood.low, stood.high, stood.loss) for c in channels.readers(source.topic)]
    return [replace(gap, topic_id=topic_id).record() for gap in lost]


def applied_record(channels: ChannelSet, work: Work) -> dict[str, Any]:
    """Arguments for Producer.produce that say from which offset on these channels are in force."""
    applied = {
        "topic": work.partition.topic,
        "topic_id": work.topic_id,
        "partition": work.partition.number,
        "offset": work.low,
        "version": work.version,
        "external": dict(channels.externals.versions),
    }
    return _applied(str(work.partition), applied, channels)


def applied_to_exposures(channels: ChannelSet) -> dict[str, Any]:
    """Arguments for Producer.produce that say what the version in the records of zads.exposures means."""
    return _applied("exposures", {"exposures": True, "version": channels.version}, channels)


def _applied(key: str, told: dict[str, Any], channels: ChannelSet) -> dict[str, Any]:
    value = f'{json.dumps(told)[:-1]}, "channels": {channels.described}}}'
    return {"topic": APPLIED_TOPIC, "key": key.encode(), "value": value.encode()}


def _undelivered(channel: Channel, match: Match, reason: str, detail: str) -> Refusal:
    return Refusal(match.index, "publish", reason, detail, channel.name, match.candid, match.objectId)


def _headers(channel: Channel, match: Match, source: Message) -> list[tuple[str, bytes]]:
    field = survey_named(match.survey).public.field
    return [
        ("candid", str(match.candid).encode()),
        ("objectId", match.objectId.encode()),
        *([(field, str(match.program).encode())] if field else []),
        *channel.headers,
        ("source", f"{source.topic()}/{source.partition()}/{source.offset()}".encode()),
    ]
