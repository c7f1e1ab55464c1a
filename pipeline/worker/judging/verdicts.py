"""What the channels say of a batch: matches, refusals, gaps, counts; of the whole and of its parts."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any, NamedTuple, TypeVar

import numpy as np

from pipeline.broker.dead_letters import Stage
from pipeline.worker.work import ChannelFailure


@dataclass(frozen=True)
class Refusal:
    """One record that a stage could not take: for the dead-letter topic."""

    index: int  # of the packet in the batch
    stage: Stage
    reason: str
    detail: str
    channel: str = ""
    candid: int | None = None
    objectId: str = ""


@dataclass(frozen=True)
class Match:
    """One record that a channel wants.

    program: whose data it is, where the survey says so. jd: days UTC, where a limit asks for it.
    """

    index: int
    survey: str
    candid: int
    objectId: str
    program: int | None
    values: dict[str, Any] = field(default_factory=dict)
    jd: float | None = None


class Failed:
    """The channels whose filters have failed in this process, under the channels of now.

    The coordinator suspends them, but hands out a few batches before it has heard of that: a filter that
    takes all the time it may get would take it for each of these.
    """

    def __init__(self) -> None:
        self._of: object = None
        self._failures: dict[str, ChannelFailure] = {}

    def under(self, of: object) -> Mapping[str, ChannelFailure]:
        """Channel -> how it has failed. of: names the run and its channels; under others all begin anew."""
        if of != self._of:
            self.forget()
            self._of = of
        return self._failures

    def forget(self) -> None:
        """All begin anew."""
        self._of, self._failures = None, {}

    def note(self, failures: Iterable[ChannelFailure]) -> None:
        """Remember them, until the channels change."""
        self._failures |= {failure.channel: failure for failure in failures}


_Found = TypeVar("_Found", Refusal, Match)


class Sight(NamedTuple):
    """Packets that the filters of some channels saw.

    names: of the channels, none twice. packets: ascending, (n,) int.
    """

    names: tuple[str, ...]
    packets: np.ndarray

    def without(self, channels: Container[str]) -> Sight:
        """The same packets, seen by fewer channels."""
        return self._replace(names=tuple(name for name in self.names if name not in channels))


@dataclass
class Verdicts:
    """What a batch came to."""

    matches: dict[str, list[Match]] = field(default_factory=dict)
    refused: list[Refusal] = field(default_factory=list)
    gaps: dict[str, str] = field(default_factory=dict)  # channel -> why the whole batch is missing
    failures: list[ChannelFailure] = field(default_factory=list)
    chances: list[str] = field(default_factory=list)  # channels that have a gap here and go on, and why
    mixed: set[int] = field(default_factory=set)  # packets with something that is not public
    unlisted: dict[int, frozenset[str]] = field(default_factory=dict)  # packet -> fields not to be public
    alerts: int = 0
    objects: list[int] = field(default_factory=list)
    other_surveys: dict[str, int] = field(default_factory=dict)
    not_public: int = 0
    judged: list[int] = field(default_factory=list)  # packets with alerts, ascending
    strangers: list[int] = field(default_factory=list)  # packets of surveys that are not known
    seen: list[Sight] = field(default_factory=list)
    kept: dict[str, list[int]] = field(default_factory=dict)  # channel -> packets that it did not reject
    nights: dict[int, str] = field(default_factory=dict)  # packet -> its night, in topics that name none
    seconds: dict[str, float] = field(default_factory=dict)
    filter_seconds: dict[str, float] = field(default_factory=dict)  # by channel

    def keeps(self, channel: str, packets: np.ndarray) -> None:
        """Note what a channel did not reject.

        Parameters
        ----------
        channel
            Its name.
        packets
            Some of whose rows passed, or failed; of each survey once.
        """
        if len(packets):
            self.kept.setdefault(channel, []).extend(packets.tolist())

    def seen_by(self, channel: str) -> list[np.ndarray]:
        """The packets that a channel's filter saw, of each survey by themselves."""
        return [sight.packets for sight in self.seen if channel in sight.names]

    def leave_out_failed(self) -> None:
        """A channel that failed on the alerts of one survey delivers none of the other's: all is its gap."""
        if not self.gaps:
            return
        for name in self.gaps:
            self.matches.pop(name, None)
            self.kept.pop(name, None)
        self.seen = [sight.without(self.gaps) for sight in self.seen]
        self.refused = [one for one in self.refused if one.channel not in self.gaps]

    def leave_out_before(self, first: int) -> None:
        """Only what is said of the packets from `first` on; what is wrong with a packet is said elsewhere."""
        self.refused = [one for one in self.refused if one.channel and one.index >= first]
        self.matches = {
            name: [match for match in found if match.index >= first] for name, found in self.matches.items()
        }

    def in_order(self) -> None:
        """The matches of each channel by their packets; those of several surveys were found one by one."""
        for matches in self.matches.values():
            matches.sort(key=lambda match: match.index)

    def parts(self, ends: Sequence[int]) -> list[Verdicts]:
        """What concerns each of several batches, its packets counted from its first.

        Parameters
        ----------
        ends
            Of each batch: the packet after its last.
        """
        parts = [Verdicts(gaps=dict(self.gaps), failures=list(self.failures)) for _ in ends]
        bounds = [0, *ends]
        for refusal in self.refused:
            part = bisect_right(ends, refusal.index)
            parts[part].refused.append(_counted_from(bounds[part], refusal))
        for name, matches in self.matches.items():
            for match in matches:
                part = bisect_right(ends, match.index)
                parts[part].matches.setdefault(name, []).append(_counted_from(bounds[part], match))
        for name, kept in self.kept.items():
            for packet in kept:
                part = bisect_right(ends, packet)
                parts[part].kept.setdefault(name, []).append(packet - bounds[part])
        for names, packets in self.seen:
            cuts = np.searchsorted(packets, bounds).tolist()
            for part, (low, high) in enumerate(pairwise(cuts)):
                if low < high:
                    parts[part].seen.append(Sight(names, packets[low:high] - bounds[part]))
        return parts


def _counted_from(first: int, found: _Found) -> _Found:
    """As seen from the batch whose first packet this is."""
    return replace(found, index=found.index - first) if first else found
