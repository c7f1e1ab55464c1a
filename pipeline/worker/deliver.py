"""What one batch sends: alerts to their channels, dead letters, gaps, and the channel set in force."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from confluent_kafka import Message

from pipeline.broker.client import MESSAGE_MAX_BYTES
from pipeline.broker.dead_letters import Stage, dead_letter_record
from pipeline.broker.paced import Paced
from pipeline.broker.partition import Partition
from pipeline.channels.channel import Channel, ChannelSet
from pipeline.channels.gaps import APPLIED_TOPIC, Counted, Gap, gap_of
from pipeline.worker.evaluate import Match, Refusal, Verdicts
from pipeline.worker.position import Standing
from pipeline.worker.work import Work
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
    source
        The partition that the batch is from.
    verdicts
        What the channels said of it.
    records
        Its records.
    schemas
        Where the schemas of packets with Confluent framing are looked up.

    Attributes
    ----------
    readers
        The channels that read the source.
    delivered
        Channel -> what went to its topic.
    refused
        What went to the dead letters, from any stage.
    """

    def __init__(
        self,
        channels: ChannelSet,
        source: Partition,
        verdicts: Verdicts,
        records: Sequence[Message],
        schemas: SchemaSource | None = None,
    ) -> None:
        self._source, self._verdicts, self._records, self._schemas = source, verdicts, records, schemas
        self._channels = {channel.name: channel for channel in channels.channels}
        self.readers = [channel for channel in channels.channels if channels.reads(channel, source.topic)]
        self._external = {name: channels.external_header(one) for name, one in self._channels.items()}
        self._rewritten: dict[tuple[int, tuple[str, ...], bool], bytes] = {}
        self._hidden: dict[str, set[int]] = {}
        self.delivered: dict[str, list[Match]] = {}
        self.refused: list[Refusal] = []

    @property
    def hidden(self) -> dict[str, int]:
        """Fields that were cut out of what public channels got, with the number of packets."""
        return {path: len(packets) for path, packets in self._hidden.items()}

    def produce(self, paced: Paced, low: int, high: int) -> None:
        """Send matches, dead letters, and the gaps that channels have in this batch.

        Parameters
        ----------
        paced
            The producer, in a transaction.
        low
            First offset of the batch.
        high
            Offset after its last.

        Raises
        ------
        NotTaken
            When the broker does not take a record.
        """
        self.refused = list(self._verdicts.refused)
        for name, matches in self._verdicts.matches.items():
            self.delivered[name] = []
            for match in matches:
                if refusal := self._deliver(paced, self._channels[name], match):
                    self.refused.append(refusal)
                else:
                    self.delivered[name].append(match)
        for refusal in self.refused:
            paced.produce(**self._dead_letter(refusal))
        for gap in self._gaps(self.refused, low, high):
            paced.produce(**gap.record())

    def _deliver(self, paced: Paced, channel: Channel, match: Match) -> Refusal | None:
        """Send one alert to its channel; what cannot be sent comes back as a refusal."""
        source = self._records[match.index]
        try:
            value = self._value(channel, match.index)
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
        return None

    def _value(self, channel: Channel, index: int) -> bytes:
        """The packet's own bytes, unless fields are dropped or history rows must go."""
        raw = self._records[index].value()
        public_only = channel.public and index in self._verdicts.mixed
        if channel.public:
            for path in self._verdicts.unlisted.get(index, ()):
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

    def _gaps(self, refused: list[Refusal], low: int, high: int) -> list[Gap]:
        """What channels miss here: whole batches, and single alerts on which their filter failed."""
        whole = [
            gap_of(self._channels[name], self._source, low, high, reason, counted="gaps")
            for name, reason in self._verdicts.gaps.items()
        ]
        offsets = [(refusal, self._records[refusal.index].offset()) for refusal in refused if refusal.channel]
        single = [
            gap_of(
                self._channels[one.channel], self._source, offset, offset + 1, one.detail, _COUNTED[one.stage]
            )
            for one, offset in offsets
        ]
        unread = [
            gap_of(channel, self._source, offset, offset + 1, refusal.detail, counted="gaps")
            for refusal in refused
            if refusal.reason == UNREADABLE
            for offset in [self._records[refusal.index].offset()]
            for channel in self.readers
        ]
        return [*whole, *single, *unread]


def loss_records(channels: ChannelSet, source: Partition, stood: Standing) -> list[dict[str, Any]]:
    """Arguments for Producer.produce that note for each channel what can no longer be read.

    Parameters
    ----------
    channels
        The channels in force.
    source
        The partition.
    stood
        Where the group stands in it, and what is lost.
    """
    readers = [channel for channel in channels.channels if channels.reads(channel, source.topic)]
    return [gap_of(c, source, stood.low, stood.high, stood.loss).record() for c in readers]


def applied_record(channels: ChannelSet, work: Work) -> dict[str, Any]:
    """Arguments for Producer.produce that say from which offset on these channels are in force."""
    applied = {
        "topic": work.partition.topic,
        "partition": work.partition.number,
        "offset": work.low,
        "version": work.version,
        "channels": [channel.describe() for channel in channels.channels],
        "external": dict(channels.externals.versions),
    }
    return {
        "topic": APPLIED_TOPIC,
        "key": str(work.partition).encode(),
        "value": json.dumps(applied).encode(),
    }


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
