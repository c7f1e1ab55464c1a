"""What is heard of the workers: what each takes, and which stand still without anybody saying so."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

_SILENT_LOOKS = 12  # at two and a half looks a second
_RECENT_LOOKS = 5
_WORKERS_A_LOOK = 20  # the more workers there are, the more seldom Dask lets each of them report


class Taken(NamedTuple):
    """What a worker takes of its machine, as it has said last.

    memory: resident bytes. handles: open files and sockets. threads: of Python and of librdkafka. lanes:
    partitions that it holds.
    """

    memory: int = 0
    handles: int = 0
    threads: int = 0
    lanes: int = 0

    @classmethod
    def of_metrics(cls, metrics: Mapping[str, Any]) -> Taken:
        """From a worker's metrics as the scheduler has them."""
        ours = metrics.get("zads", {})
        return cls(
            metrics.get("memory", 0), metrics.get("num_fds", 0), ours.get("threads", 0), ours.get("lanes", 0)
        )


@dataclass
class _Worker:
    last_seen: float
    looks: int = 0  # since it was heard of


class Heard:
    """Which workers have gone silent, by what the scheduler noted of them last.

    Counted in looks and not in seconds: the scheduler's clock may jump, and a coordinator that stood still
    itself has not looked. Where nobody is heard of, nobody is silent: then it is the scheduler.
    """

    def __init__(self) -> None:
        self._workers: dict[str, _Worker] = {}

    def look(self, last_seen: Mapping[str, float]) -> set[str]:
        """The addresses of those that are silent.

        Parameters
        ----------
        last_seen
            Address -> when the scheduler heard of the worker last, by any clock.
        """
        self._workers = {address: self._after(address, moment) for address, moment in last_seen.items()}
        looks = {address: worker.looks for address, worker in self._workers.items()}
        if min(looks.values(), default=0) > _RECENT_LOOKS:
            return set()
        enough = _SILENT_LOOKS + len(looks) // _WORKERS_A_LOOK
        return {address for address, count in looks.items() if count >= enough}

    def _after(self, address: str, moment: float) -> _Worker:
        before = self._workers.get(address)
        if before is None or before.last_seen != moment:
            return _Worker(moment)
        return _Worker(moment, before.looks + 1)
