"""From packets to verdicts: decode a batch once, run every channel's filter on it.

Kafka is not used here, so that the live stream, a backfill and a test run the same code. User code is
isolated: when a filter raises, the batch is halved until each failing alert is isolated, and these alerts are
set aside for that channel only. When there are many of them the filter itself has failed, and the batch is a
gap of the channel. Other channels are not affected.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from contextlib import suppress
from hashlib import sha256
from itertools import pairwise

import numpy as np

from filters.errors import FilterError
from filters.sandbox.uploaded import Uploaded
from pipeline.channels.channel import Channel, ChannelSet
from pipeline.channels.ledger import night_of_topic
from pipeline.worker.judging.envelope import Envelope, Guard, View
from pipeline.worker.judging.memory import Kept
from pipeline.worker.judging.surveyor import Read, Surveyor, describe, named, nights_of
from pipeline.worker.judging.verdicts import Sight, Verdicts
from schemas.avro.framing import SchemaSource
from schemas.packets.reader import Batch, read_by_survey
from schemas.surveys.registry import SURVEYS


class Evaluator:
    """A channel set made ready to run: which columns to decode, which frame each channel sees."""

    def __init__(self, channels: ChannelSet, schemas: SchemaSource | None = None) -> None:
        self.channels, self.schemas, self.kept = channels, schemas, Kept()
        # Where no channel runs all packets are read all the same: damaged ones go to the dead letters.
        self._of = {name: Surveyor(name, channels, schemas) for name in channels.surveys or SURVEYS}
        self._surveys = list(self._of.values())

    def prepare(self) -> None:
        """Load what the first batch would wait for. No filter runs here: it might not come back.

        Filters of users are loaded where they will run, in the sandbox, and judge an alert there that is
        none: who attacks at once has done so before a stream waits.
        """
        for surveyor in self._surveys:
            surveyor.prepare()
        _ = self.channels.described
        for channel in self.channels.channels:
            _ = channel.headers  # the version of a filter reads all that it depends on: up to a second
            if isinstance(channel.filter.function, Uploaded):
                with suppress(FilterError):  # told when it fails on a batch
                    channel.filter.function.prepare()
                    self._of[channel.filter.surveys[0]].rehearse(channel)

    def kind_of(self, topic: str) -> tuple[object, ...]:
        """Equal for topics whose alerts may be judged in one pass: the same channels read them.

        Parameters
        ----------
        topic
            That packets come from.
        """
        return (self.channels.reader_names(topic), bool(night_of_topic(topic)))

    def evaluate(
        self,
        batches: Sequence[Sequence[bytes]],
        topic: str,
        guard: Guard,
        *,
        suspended: dict[str, str],
        filter_seconds: float,
        failing_alerts: int,
    ) -> list[Verdicts]:
        """Decode batches of packets and run every channel that may read their topic and is not suspended.

        Each channel runs once over the alerts of all batches, because ten alerts cost a filter as much time
        as a thousand. A filter that fails has failed on each batch.

        Parameters
        ----------
        batches
            Packets of each batch.
        topic
            The topic that they come from, or one of the same kind (see kind_of).
        guard
            Watches over a filter while it runs.
        suspended
            Channel -> why it does not run.
        filter_seconds
            Time limit of each run of a filter, s.
        failing_alerts
            Most alerts on which a filter may raise; with more, the filter itself has failed.

        Returns
        -------
        list of Verdicts
            One for each batch. The first has the time used for all.
        """
        verdicts = Verdicts()
        with _timed(verdicts.seconds, "decode"):
            packets = [packet for packets in batches for packet in packets]
            parts = read_by_survey([surveyor.reader for surveyor in self._surveys], packets)
        read = [Read.of(self._of[reader.survey.name], named(batch)) for reader, batch in parts]
        envelope = Envelope(guard, filter_seconds, failing_alerts, verdicts, self.kept)
        for one in read:
            self._judge(one.surveyor, one.batch, topic, envelope, suspended)
        verdicts.leave_out_failed()
        if len(read) > 1:
            verdicts.in_order()
        ends = np.cumsum([len(packets) for packets in batches]).tolist()
        dated = bool(night_of_topic(topic))
        each = verdicts.parts(ends)
        for part, (start, stop) in zip(each, pairwise([0, *ends]), strict=True):
            _describe(part, [one.part(start, stop) for one in read], dated)
        each[0].seconds = verdicts.seconds  # of all of them, told once
        each[0].filter_seconds, each[0].chances = verdicts.filter_seconds, verdicts.chances
        return each

    def _judge(
        self,
        surveyor: Surveyor,
        batch: Batch,
        topic: str,
        envelope: Envelope,
        suspended: dict[str, str],
    ) -> None:
        verdicts = envelope.verdicts
        reading = set(self.channels.reader_names(topic))
        for access in surveyor.accesses:
            readers = [channel for channel in access.channels if channel.name in reading]
            verdicts.gaps |= {c.name: suspended[c.name] for c in readers if c.name in suspended}
            active = _mixed([channel for channel in readers if channel.name not in verdicts.gaps])
            if active:
                with _timed(verdicts.seconds, "filter"):
                    view = View(batch, access.maker, access.public)
                    self._run(active, view, envelope)
                    view.forget()

    def _run(self, channels: list[Channel], view: View, envelope: Envelope) -> None:
        verdicts, answered = envelope.verdicts, []
        for channel in channels:
            name = channel.name
            with _timed(verdicts.filter_seconds, name):
                answer = envelope.passes(channel, view)
            if answer is None:
                continue
            answered.append(name)
            if answer.mask.any():
                matches = view.matches(answer.mask, answer.values, channel.values)
                verdicts.matches.setdefault(name, []).extend(matches)
            verdicts.keeps(name, view.kept(answer))
        verdicts.seen.append(Sight(tuple(answered), view.packets))


def _describe(verdicts: Verdicts, parts: Sequence[Read], dated: bool) -> None:
    """Note what the packets of a batch held, survey by survey. dated: the topic names their night."""
    for part in parts:
        describe(part, verdicts)
        if not dated:
            verdicts.nights |= nights_of(part.batch, part.surveyor.survey.name)
    verdicts.judged.sort()


def _mixed(channels: list[Channel]) -> list[Channel]:
    """The channels with filters of users last, and these in an order that each process has for itself.

    So two workers that several slow filters hold up begin with different ones, and what one worker has found
    out the other need not wait for.
    """

    def place(channel: Channel) -> str:
        if not isinstance(channel.filter.function, Uploaded):
            return ""
        return sha256(f"{channel.name} {os.getpid()}".encode()).hexdigest()

    return sorted(channels, key=place)


class _timed:
    """Adds the time spent within to the total of a stage, or of a channel."""

    def __init__(self, seconds: dict[str, float], name: str) -> None:
        self._seconds, self._name = seconds, name

    def __enter__(self) -> None:
        self._began = time.perf_counter()

    def __exit__(self, *exc: object) -> None:
        self._seconds[self._name] = self._seconds.get(self._name, 0.0) + time.perf_counter() - self._began
