"""Which partitions have been in one state for long: what an operator wants to hear of, and nothing else."""

from __future__ import annotations

import logging
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from pipeline.broker.logs import STILL_SO_SECONDS, about
from pipeline.broker.partition import Partition
from pipeline.channels.state import Lasting, Stuck
from pipeline.live.source import Progress
from pipeline.live.told.statistics import Failing

log = logging.getLogger(__name__)

LONG_SECONDS = 10.0


@dataclass(frozen=True)
class _In:
    """The state of a partition; `what` tells two of the same name apart."""

    state: Lasting
    what: object
    why: str = ""
    attempts: int = 0


class LongStates:
    """Watches the partitions of a run; logs at INFO which states last, once a minute, and when they are over.

    Parameters
    ----------
    clock
        Seconds, from any beginning; the same that `Failing.since` is of.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._since: dict[Partition, tuple[_In, float]] = {}
        self._said: dict[tuple[Lasting, str], tuple[float, float]] = {}  # (state, why): since when, said when

    def look(
        self,
        progress: Mapping[Partition, Progress],
        set_aside: Mapping[Partition, str],
        failing: Mapping[Partition, Failing],
    ) -> list[Stuck]:
        """The partitions that have been in one state for ten seconds, the one that has been longest first.

        Parameters
        ----------
        progress
            Where each partition stands.
        set_aside
            Those that cannot be read, and why.
        failing
            Those whose last attempts went wrong.
        """
        now, states = self._clock(), {}
        for partition, one in progress.items():
            if (state := _state(one, set_aside.get(partition), failing.get(partition))) is None:
                continue
            before, since = self._since.get(partition, (state, now))
            same = (before.state, before.what) == (state.state, state.what)
            states[partition] = state, since if same else now
        self._since = states
        long = [(since, p, state) for p, (state, since) in states.items() if now - since >= LONG_SECONDS]
        long.sort(key=lambda one: one[:2])
        self._say(long, now)
        at = time.time() - now
        return [
            Stuck(partition=str(p), state=s.state, since=at + since, attempts=s.attempts, why=s.why)
            for since, p, s in long
        ]

    def _say(self, long: list[tuple[float, Partition, _In]], now: float) -> None:
        alike = defaultdict(list)
        for since, partition, seen in long:
            alike[seen.state, seen.why].append((since, partition))
        for kind, some in alike.items():
            since, said = self._said.get(kind, (some[0][0], -STILL_SO_SECONDS))
            if now - said >= STILL_SO_SECONDS:
                partition = some[0][1]
                self._said[kind] = since, now
                words = "%d partitions are %s for %.0f s, such as %s%s"
                why = f": {kind[1]}" if kind[1] else ""
                log.info(words, len(some), kind[0], now - since, partition, why, extra=about(partition))
        for kind in [kind for kind in self._said if kind not in alike]:
            why = f" ({kind[1]})" if kind[1] else ""
            lasted = now - self._said.pop(kind)[0]
            log.info("no partition is %s any more%s, after %.0f s", kind[0], why, lasted)


def _state(one: Progress, set_aside: str | None, failing: Failing | None) -> _In | None:
    """What is worth telling of a partition if it lasts; None: it is up to date."""
    if set_aside is not None:
        return _In("set aside", None, set_aside)
    if failing is not None and (one.busy or one.waiting):
        return _In("retrying", failing.since, failing.why, failing.attempts)
    if one.busy:
        return _In("in flight", one.flight, "its worker has not answered yet")
    if one.is_unknown:
        return _In("not known", None, "the broker has not said where the group stands")
    return _In("waiting", one.next, "no worker has room for it, or there is none") if one.waiting else None
