"""The Dask workers as the live stream uses them: partitions pinned, deaths noticed, overruns ended.

Dask places the work; whether to try again is decided by pipeline.recovery, so a task is never
retried by Dask, and each attempt has a key of its own. A task pinned to a worker that is gone would
wait for ever, so the fleet looks who is there several times a second.
"""

from __future__ import annotations

import asyncio
import logging
import pickle
from collections import Counter
from collections.abc import Callable
from typing import Any

import cloudpickle
from distributed import Client
from distributed.scheduler import KilledWorker

from pipeline.work import Partition, Report, Work
from schemas.errors import ZadsError

log = logging.getLogger(__name__)

_LOOK_SECONDS = 0.2
_PREPARE_SECONDS = 20.0
_NO_WORKER_SECONDS = 60.0


class NoWorkersError(ZadsError):
    """The cluster has had no worker for a minute."""


class Fleet:
    """The workers of one Dask cluster. Use as an async context manager."""

    def __init__(self, client: Client, batch_seconds: float) -> None:
        self._client = client
        self._batch_seconds = batch_seconds
        self._threads: dict[str, int] = {}  # address of each worker that is there -> task threads
        self._homes: dict[Partition, str] = {}
        self._busy: Counter[str] = Counter()  # address -> batches there
        self._changed = asyncio.Condition()

    async def __aenter__(self) -> Fleet:
        await self._look()
        self._watching = asyncio.create_task(self._watch())
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._watching.cancel()

    @property
    def workers(self) -> int:
        """How many workers are there now."""
        return len(self._threads)

    def has_room(self, partition: Partition, batches: int) -> bool:
        """Whether fewer than `batches` are at the worker of this partition."""
        home = self._homes.get(partition)
        return home not in self._threads or self._busy[home] < batches

    async def prepare(self, function: Callable[..., None], *arguments: Any) -> None:
        """Call `function` on each worker that is there; returns when all have, or after some seconds.

        The first batches then find everything loaded. What fails here will fail, and be said, there.
        """
        calls = [self._submit(address, function, *arguments) for address in self._threads]
        waiting = [asyncio.ensure_future(call.result()) for call in calls]
        _, late = await asyncio.wait(waiting, timeout=_PREPARE_SECONDS) if waiting else (set(), set())
        for call in late:
            call.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)

    async def run(self, function: Callable[[Work], Report], work: Work) -> Report:
        """The report of `function(work)`, or one that says how its worker ended."""
        address = await self._home(work.partition)
        self._busy[address] += 1
        future = self._submit(address, function, work, key=work.key)
        answer = asyncio.ensure_future(future.result())
        gone = asyncio.ensure_future(self._gone(address))
        try:
            done, _ = await asyncio.wait(
                {answer, gone}, timeout=self._batch_seconds, return_when="FIRST_COMPLETED"
            )
            if answer in done:
                return _answer(answer, work)
            if gone in done:
                return Report(work, "died", message=f"worker {address} ended")
            await self._end(address)
            return Report(work, "died", message=f"overran {self._batch_seconds:g} s; its worker was ended")
        finally:
            self._busy[address] -= 1
            gone.cancel()
            if not answer.done():
                answer.cancel()
                await self._client.cancel([future], force=True)

    def _submit(
        self, address: str, function: Callable[..., Any], *arguments: Any, key: str | None = None
    ) -> Any:
        """Have the worker at `address`, and no other, call the function once."""
        return self._client.submit(
            pickle.loads,
            cloudpickle.dumps(_Call(function, arguments)),
            key=key,
            workers=[address],
            allow_other_workers=False,
            retries=0,
            pure=False,
        )

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            try:
                await self._look()
            except OSError as error:
                log.warning("the Dask scheduler does not answer: %s", error)

    async def _look(self) -> None:
        known = await self._client.scheduler.identity(n_workers=-1)
        threads = {address: worker["nthreads"] for address, worker in known["workers"].items()}
        if threads != self._threads:
            async with self._changed:
                self._threads = threads
                self._changed.notify_all()

    async def _gone(self, address: str) -> None:
        async with self._changed:
            await self._changed.wait_for(lambda: address not in self._threads)

    async def _home(self, partition: Partition) -> str:
        """The worker that this partition is pinned to; another when that is gone or has far more to do."""
        try:
            async with asyncio.timeout(_NO_WORKER_SECONDS), self._changed:
                await self._changed.wait_for(lambda: bool(self._threads))
        except TimeoutError:
            raise NoWorkersError(
                "the Dask cluster has no workers", hint="look at its logs, or start workers"
            ) from None
        load = Counter(home for home in self._homes.values() if home in self._threads)
        least = min(self._threads, key=lambda address: load[address])
        home = self._homes.get(partition)
        if home not in self._threads or load[home] > load[least] + 1:
            self._homes[partition] = home = least
        return home

    async def _end(self, address: str) -> None:
        """End the worker's process; its nanny starts another."""
        log.warning("ending worker %s: a batch overran %g s", address, self._batch_seconds)
        answer = await self._client.restart_workers([address], timeout=20, raise_for_error=False)
        log.info("worker %s: %s", address, answer)


class _Call:
    """A call that is made where it is unpickled, so that a scheduler without our code can hand it on."""

    def __init__(self, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
        self._function, self._arguments = function, arguments

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self._function, self._arguments


def _answer(answer: asyncio.Future[Any], work: Work) -> Report:
    """A report from what Dask says of a task that has ended."""
    try:
        return answer.result()
    except (KilledWorker, asyncio.CancelledError) as error:
        log.debug("%s: %s", work.key, error)
        return Report(work, "died", message="its worker ended")
    except Exception as error:  # process() itself never raises: this is Dask failing to run it
        log.warning("batch %s could not be run: %s", work.key, error)
        return Report(work, "retry", message=f"{type(error).__name__}: {error}")
