"""What the channels say of a batch: matches, refusals, gaps, counts; of the whole and of its parts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

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
            self._of, self._failures = of, {}
        return self._failures

    def note(self, failures: Iterable[ChannelFailure]) -> None:
        """Remember them, until the channels change."""
        self._failures |= {failure.channel: failure for failure in failures}


_Found = TypeVar("_Found", Refusal, Match)


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
    seen: dict[str, np.ndarray] = field(default_factory=dict)  # channel -> packets that its filter saw
    rejected: dict[str, np.ndarray] = field(default_factory=dict)  # of these, none of whose rows passed
    nights: dict[int, str] = field(default_factory=dict)  # packet -> its night, in topics that name none
    seconds: dict[str, float] = field(default_factory=dict)
    filter_seconds: dict[str, float] = field(default_factory=dict)  # by channel

    def saw(self, channel: str, packets: np.ndarray, rejected: np.ndarray) -> None:
        """Note what a channel's filter saw, and what of it was rejected; of each survey once.

        Parameters
        ----------
        channel
            Its name.
        packets
            That the filter saw, ascending.
        rejected
            Of these, none of whose rows passed.
        """
        for of_channel, some in ((self.seen, packets), (self.rejected, rejected)):
            before = of_channel.get(channel)
            of_channel[channel] = some if before is None else np.sort(np.concatenate([before, some]))

    def leave_out_failed(self) -> None:
        """A channel that failed on the alerts of one survey delivers none of the other's: all is its gap."""
        for name in self.gaps:
            for of_channel in (self.matches, self.seen, self.rejected):
                of_channel.pop(name, None)
        self.refused = [one for one in self.refused if one.channel not in self.gaps]
        for matches in self.matches.values():
            matches.sort(key=lambda match: match.index)

    def leave_out_before(self, first: int) -> None:
        """Only what is said of the packets from `first` on; what is wrong with a packet is said elsewhere."""
        self.refused = [one for one in self.refused if one.channel and one.index >= first]
        self.matches = {
            name: [match for match in found if match.index >= first] for name, found in self.matches.items()
        }

    def part(self, start: int, stop: int) -> Verdicts:
        """What concerns the packets from `start` up to `stop`, which are counted from there."""
        return Verdicts(
            matches={name: _within(found, start, stop) for name, found in self.matches.items()},
            refused=_within(self.refused, start, stop),
            gaps=dict(self.gaps),
            failures=list(self.failures),
            seen=_from(self.seen, start, stop),
            rejected=_from(self.rejected, start, stop),
        )


def _within(found: list[_Found], start: int, stop: int) -> list[_Found]:
    """What concerns the packets from `start` up to `stop`, counted from there."""
    if not found:
        return []
    here = [one for one in found if start <= one.index < stop]
    return [replace(one, index=one.index - start) for one in here] if start else here


def _from(found: Mapping[str, np.ndarray], start: int, stop: int) -> dict[str, np.ndarray]:
    """Of each channel's packets those from `start` up to `stop`, counted from there."""
    cuts: dict[int, np.ndarray] = {}  # many channels have seen the same packets
    for some in found.values():
        if id(some) not in cuts:
            low, high = np.searchsorted(some, (start, stop))
            cuts[id(some)] = some[low:high] - start if start else some[low:high]
    return {name: cuts[id(some)] for name, some in found.items()}
