"""The Dask workers as the live stream uses them: partitions pinned, deaths noticed, overruns ended.

Small pieces of work that come for one worker at the same time go to it as one task (see Work.kin): what a
task and a run of the filters cost is then paid once, not once a partition.

Dask places the work; whether to try again is decided by pipeline.live.recovery, so a task is never
retried by Dask, and each attempt has a key of its own. A task pinned to a worker that is gone would
wait for ever, so the fleet looks who is there several times a second.
"""

from __future__ import annotations

import asyncio
import logging
import pickle
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import cloudpickle
from distributed import Client
from distributed.client import AllExit

from pipeline.broker.logs import NowAndThen, about
from pipeline.broker.partition import Partition
from pipeline.live.fleet.bundle import Bundle, Call, answered, died, own_slots
from pipeline.live.fleet.heard import Heard, Taken
from pipeline.live.fleet.slots import Slots
from pipeline.worker.work import Report, Work, again_together
from schemas.errors import ZadsError

log = logging.getLogger(__name__)

Process = Callable[..., list[Report]]
"""Given pieces of work, and the name of the worker's slot where there are slots."""
Again = Callable[[], Awaitable[Client]]
_LOOK_SECONDS = 0.4
_PREPARE_SECONDS = 20.0
_OPEN_SECONDS = 60.0  # on a worker that has just begun, our code is loaded first
_NO_WORKER_SECONDS = 60.0
_ANSWER_SECONDS = 5.0
_STILL_SO_SECONDS = 60.0
_LESS_SECONDS = 60.0


class NoWorkersError(ZadsError):
    """The cluster has had no worker for a minute."""


class Fleet:
    """The workers of one Dask cluster. Use as an async context manager.

    Parameters
    ----------
    client
        Client of the scheduler.
    batch_seconds
        Time limit of a task, s.
    bundles
        How many full tasks a worker has at a time: one running, the others waiting.
    offsets
        How many offsets a full task spans.
    again
        Connects to a scheduler that has been started again, whose workers then have our code; raises OSError
        or TimeoutError while there is none. None: this scheduler and no other.
    slots
        Gives each worker a slot; None: the work needs none.
    """

    def __init__(
        self,
        client: Client,
        batch_seconds: float,
        bundles: int,
        offsets: int,
        again: Again | None = None,
        slots: Slots | None = None,
    ) -> None:
        self._client, self._again, self._slots = client, again, slots
        self._scheduler = ""  # its id: one that was started again has another
        self._away = False
        self._batch_seconds = batch_seconds
        self._most_bundles, self._usual_offsets = bundles, offsets
        self._fewer_offsets, self._fewer_until = offsets, 0.0  # where a full task was too much
        self._threads: dict[str, int] = {}  # address of each worker that is there -> task threads
        self._heard, self._silent = Heard(), set[str]()
        self._lasting = NowAndThen(log)
        self._ready, self._beginning = set[str](), set[str]()  # who has slot and code, or is getting them
        self._loads: tuple[Callable[..., None], tuple[Any, ...]] | None = None  # called first on each worker
        self.taken: dict[str, Taken] = {}  # address -> what its worker takes of its machine
        self._homes: dict[Partition, str] = {}
        self._load: Counter[str] = Counter()  # address -> partitions that have it as their home
        self._busy: Counter[str] = Counter()  # address -> bundles there
        self._gathered: dict[tuple[str, object], Bundle] = {}  # (address, kin) -> one that still fills
        self._under_way: set[asyncio.Task[None]] = set()
        self._sent: set[Bundle] = set()  # that are with their workers
        self._changed = asyncio.Condition()
        self._ending: set[str] = set()
        self._said_away = -_STILL_SO_SECONDS

    async def __aenter__(self) -> Fleet:
        asyncio.get_running_loop().set_exception_handler(_unheard)
        await self.look()
        self._watching = asyncio.create_task(self._watch())
        return self

    async def __aexit__(self, *exc: object) -> None:
        tasks = [self._watching, *self._under_way]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._client.close(timeout=1)

    @property
    def workers(self) -> int:
        """How many workers are there now."""
        return len(self._threads)

    def has_room(self, partition: Partition, offsets: int) -> bool:
        """Whether the worker of this partition can take work that spans so many offsets."""
        if not self._threads:
            return True  # and find out, when taking it, that there is nobody
        home = self.home(partition)
        gathering = [bundle for (address, _), bundle in self._gathered.items() if address == home]
        fits = any(bundle.offsets + offsets <= self._most_offsets for bundle in gathering)
        # Small work waits and grows while its worker is busy; full work is at hand when the worker is ready.
        most = self._most_bundles if offsets >= self._most_offsets else 1
        return fits or self._busy[home] < most

    async def prepare(self, function: Callable[..., None], *arguments: Any) -> None:
        """Call `function` on each worker that is there; returns when all have, or after some seconds.

        The first batches then find everything loaded. What fails here will fail, and be said, there. Workers
        that come later do so before they get work.
        """
        self._loads = function, arguments
        if self._slots is not None:
            await asyncio.gather(*(self._slots.of(address, self._call) for address in self._threads))
        calls = [self._submit(address, function, *arguments) for address in self._threads]
        waiting = [asyncio.ensure_future(call.result()) for call in calls]
        _, late = await asyncio.wait(waiting, timeout=_PREPARE_SECONDS) if waiting else (set(), set())
        for call in late:
            call.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)

    async def take(self, function: Process, work: Work) -> asyncio.Future[Report]:
        """Take a piece of work for its worker; the future has its report, or one that says how that ended.

        It goes there with what else comes before `hand_over`; before that when more would not fit a task.
        Raises NoWorkersError when there has been none for a minute.
        """
        await self._somebody()
        address = self.home(work.partition)
        place = (address, work.kin)
        bundle = self._gathered.get(place)
        if bundle is None or bundle.offsets + work.high - work.low > self._most_offsets:
            if bundle is not None:
                bundle.complete.set()
            bundle = Bundle(address)
            self._busy[address] += 1
            task = asyncio.create_task(self._send(function, bundle))
            self._under_way.add(task)
            task.add_done_callback(self._under_way.discard)
            if work.kin:
                self._gathered[place] = bundle
            else:
                bundle.complete.set()
        return bundle.add(work)

    def hand_over(self) -> None:
        """What was taken goes to the workers: nothing more comes for now."""
        for bundle in self._gathered.values():
            bundle.complete.set()
        self._gathered.clear()

    async def _send(self, function: Process, bundle: Bundle) -> None:
        """Let a bundle fill, have it done, and give each of its works the report."""
        try:
            await bundle.complete.wait()
            reports = await self._done(function, bundle)
        except Exception as error:
            for waiting in bundle.reports:
                if not waiting.done():
                    waiting.set_exception(error)
        else:
            for waiting, report in zip(bundle.reports, reports, strict=True):
                if not waiting.done():
                    waiting.set_result(report)
        finally:
            self._busy[bundle.address] -= 1

    async def _done(self, function: Process, bundle: Bundle) -> list[Report]:
        """The reports of the worker, or such as say how it ended.

        What they leave open is fenced first: then anybody may have the work.
        """
        address, works = bundle.address, bundle.works
        if self._slots is None:
            return await self._reports(function, bundle)
        slot, why = await self._slots.of(address, self._call)
        if why:
            return again_together(works, f"worker {address} has no slot: {why}")
        self._sent.add(bundle)
        reports = await self._reports(function, bundle, slot)
        left_open = [report for report in reports if report.open]
        if any(not report.work.own_slot for report in left_open):
            await self._slots.retire(address, slot)
        # Of what is stale, somebody else has the name.
        await self._slots.fence(own_slots(one.work for one in left_open if one.outcome != "stale"))
        if len(works) > 1 and any(report.outcome == "together" for report in reports):
            self._fewer_offsets = max(1, bundle.offsets // 2)
            self._fewer_until = time.monotonic() + _LESS_SECONDS
        self._sent.discard(bundle)
        return reports

    @property
    def _most_offsets(self) -> int:
        """How many offsets a full task spans now."""
        return self._fewer_offsets if time.monotonic() < self._fewer_until else self._usual_offsets

    async def fence_the_rest(self) -> None:
        """At the end of a run: fence the slots of work that is under way still. Nobody waits for it."""
        if self._slots is not None and self._sent:
            works = [work for bundle in self._sent for work in bundle.works]
            await self._slots.close({bundle.address for bundle in self._sent}, own_slots(works))

    async def _reports(self, function: Process, bundle: Bundle, *slot: str) -> list[Report]:
        """The reports of the worker; or where it did not answer, such as say how it ended."""
        address, works = bundle.address, bundle.works
        try:
            future = self._submit(address, function, works, *slot, key=works[0].key)
        except Exception as error:  # of a client whose scheduler has just gone
            return again_together(works, f"the work cannot be handed on: {error}", is_open=True)
        answer = asyncio.ensure_future(future.result())
        gone = asyncio.ensure_future(self._gone(address))
        try:
            done, _ = await asyncio.wait(
                {answer, gone}, timeout=self._batch_seconds, return_when="FIRST_COMPLETED"
            )
            if answer in done:
                return answered(answer, works)
            if gone in done:
                return died(works, f"worker {address} ended")
            await self._end(address)
            return died(works, f"overran {self._batch_seconds:g} s; its worker was ended")
        finally:
            gone.cancel()
            if not answer.done():
                answer.cancel()
                if future.client.status == "running":
                    await future.client.cancel([future], force=True)

    async def _call(self, address: str, function: Callable[..., str | None], *arguments: Any) -> str:
        """What a worker answers, or why it does not."""
        if address not in self._threads:
            return "it is not there"
        try:
            answer = asyncio.ensure_future(self._submit(address, function, *arguments).result())
        except Exception as error:  # of a client whose scheduler has just gone
            return str(error)
        gone = asyncio.ensure_future(self._gone(address))
        try:
            await asyncio.wait({answer, gone}, timeout=_OPEN_SECONDS, return_when="FIRST_COMPLETED")
            if not answer.done():
                return "it does not answer"
            return answer.result() or ""
        except (Exception, asyncio.CancelledError) as error:
            if not answer.done():  # it is we who are cancelled
                raise
            return f"{type(error).__name__}: {error}"
        finally:
            gone.cancel()
            answer.cancel()

    def _submit(
        self, address: str, function: Callable[..., Any], *arguments: Any, key: str | None = None
    ) -> Any:
        """Have the worker at `address`, and no other, call the function once."""
        return self._client.submit(
            pickle.loads,
            cloudpickle.dumps(Call(function, arguments)),
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
                await self.look()
            except (OSError, TimeoutError) as error:
                await self._scheduler_is_away(error)
                await self._connect_again()

    async def _connect_again(self) -> None:
        """Go on with the scheduler that is at the address now, if one is and has workers."""
        if self._again is None:
            return
        try:
            client = await self._again()
        except (OSError, TimeoutError) as error:
            log.debug("no scheduler yet: %s", error)
            return
        log.info("the Dask scheduler is there again")
        before, self._client, self._scheduler = self._client, client, ""
        await before.close(timeout=1)

    async def _scheduler_is_away(self, error: Exception) -> None:
        """Log that there is no worker, at once and then once a minute."""
        self._away = True
        if self._threads:
            async with self._changed:
                self._threads = {}
                self._changed.notify_all()
        if time.monotonic() - self._said_away >= _STILL_SO_SECONDS:
            self._said_away = time.monotonic()
            why = str(error) or type(error).__name__
            log.warning("the Dask scheduler does not answer, waiting for it: %s", why)

    async def look(self) -> None:
        """See which workers are there now. Raises OSError or TimeoutError when the scheduler is away."""
        if self._client.status == "closed":
            raise OSError("the connection was lost")
        # Not wait_for: that of Python 3.11 forgets that it was cancelled when the answer comes just then.
        async with asyncio.timeout(_ANSWER_SECONDS):
            known = await self._client.scheduler.identity(n_workers=-1)
        if known["id"] != (self._scheduler or known["id"]):
            raise OSError("it was started again")
        self._scheduler, self._away = known["id"], False
        self.taken = {a: Taken.of_metrics(worker["metrics"]) for a, worker in known["workers"].items()}
        silent = self._heard.look({a: worker["last_seen"] for a, worker in known["workers"].items()})
        self._tell_silent(silent)
        threads = {a: worker["nthreads"] for a, worker in known["workers"].items() if a not in silent}
        if threads != self._threads:
            async with self._changed:
                self._threads = threads
                self._changed.notify_all()
        self._welcome_newcomers()

    def _welcome_newcomers(self) -> None:
        if self._slots is None and self._loads is None:  # there is nothing to begin with
            self._ready = set(self._threads)
            return
        self._ready &= self._threads.keys()
        for address in self._threads.keys() - self._ready - self._beginning:
            self._beginning.add(address)
            task = asyncio.create_task(self._welcome(address))
            self._under_way.add(task)
            task.add_done_callback(self._under_way.discard)

    async def _welcome(self, address: str) -> None:
        """A worker that has come gets partitions once it has its slot and our code; until then others do."""
        try:
            why = (await self._slots.of(address, self._call))[1] if self._slots is not None else ""
            if not why and self._loads is not None:
                function, arguments = self._loads
                why = await self._call(address, function, *arguments)
            if not why and address in self._threads:
                self._ready.add(address)
            elif address in self._threads:
                self._lasting.warn(
                    "a worker cannot begin, the others do its work", f"worker {address}: {why}"
                )
                await asyncio.sleep(_ANSWER_SECONDS)
        finally:
            self._beginning.discard(address)

    def _tell_silent(self, silent: set[str]) -> None:
        """Others do the work of a worker that stands still; it is fenced, so it may go on at any time."""
        for address in silent - self._silent:
            words = "worker %s is not heard of any more: others do its work until it is"
            log.warning(words, address, extra=about(worker=address))
        for address in self._silent - silent:
            words = "worker %s is heard of again, or has ended"
            log.info(words, address, extra=about(worker=address))
        self._silent = silent

    async def _gone(self, address: str) -> None:
        async with self._changed:
            await self._changed.wait_for(lambda: address not in self._threads)

    async def _somebody(self) -> None:
        """Return when there is a worker; raises NoWorkersError when a scheduler that answers has none.

        A scheduler that is away is waited for.
        """
        while not self._threads:
            try:
                async with asyncio.timeout(_NO_WORKER_SECONDS), self._changed:
                    await self._changed.wait_for(lambda: bool(self._threads))
            except TimeoutError:
                if not (self._away and self._again):
                    raise NoWorkersError(
                        "the Dask cluster has no workers", hint="look at its logs, or start workers"
                    ) from None

    def home(self, partition: Partition) -> str:
        """The worker that this partition is pinned to; another when that is gone or has far more to do."""
        load, home = self._load, self._homes.get(partition)
        able = self._ready or self._threads.keys()
        least = min(able, key=lambda address: load[address])
        if home is None or home not in able or load[home] > load[least] + 1:
            if home is not None:
                load[home] -= 1
            self._homes[partition] = home = least
            load[least] += 1
        return home

    async def _end(self, address: str) -> None:
        """End the worker's process; its nanny starts another. Once, whoever asks for it."""
        if address in self._ending or address not in self._threads:
            return
        self._ending.add(address)
        words = "ending worker %s: a batch overran %g s"
        log.warning(words, address, self._batch_seconds, extra=about(worker=address))
        try:
            answer = await self._client.restart_workers([address], timeout=20, raise_for_error=False)
            log.info("worker %s: %s", address, answer)
        except (KeyError, OSError, TimeoutError) as error:  # it ended by itself meanwhile
            log.info("worker %s has ended: %s", address, error)
        finally:
            self._ending.discard(address)


def _unheard(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """What nobody waits for: that Dask has let go of a task whose worker has ended is no news."""
    if isinstance(context.get("exception"), AllExit):
        log.debug("%s", context.get("message"))
    else:
        loop.default_exception_handler(context)
