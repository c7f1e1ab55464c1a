"""Which slot each worker has, and the end of slots whose work did not come back.

EXACTLY ONCE, the coordinator's half. A slot (pipeline.worker.holding.slot) may move the offsets of any
partition, so before work that did not come back goes to anybody else, the slot that had it is fenced: by
taking its name. Whatever it had open is then aborted, or was committed before; it commits nothing any more,
also if its worker only stood still.

A SLOT'S NAME IS NEW. It is opened once, by a task of its own, before any work is sent to it. A worker that
does that task late, when it has been given up, has then a slot for which there is no work. Numbers are
announced in zads.groups before they are used: whoever follows this coordinator fences them, since a
transaction that a dead worker has left open hides what follows it from the readers of channels.

A worker that lives and answers is not fenced: when its report is there, nothing of that work is open.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

from confluent_kafka import KafkaException, Producer

from pipeline.broker.client import BrokerError, client_settings, sentence
from pipeline.broker.logs import NowAndThen
from pipeline.broker.paced import fence
from pipeline.broker.profile import SERVERS
from pipeline.worker.holding.slot import slot_name
from pipeline.worker.process import open_slot

log = logging.getLogger(__name__)

_FENCE_SECONDS, _AGAIN_SECONDS = 5.0, 0.5
_SIDE_BY_SIDE = 8


class Numbers(Protocol):
    """Gives numbers that no slot of this replica has had; each is announced when it is given."""

    def take(self) -> int:
        """A number. Raises BrokerError when it cannot be announced."""

    def done(self, number: int) -> None:
        """Its slot is fenced."""


Call = Callable[..., Awaitable[str]]
"""Have the worker at an address call a function with arguments; its answer, or why there is none."""


class Slots:
    """The slots of the workers of one run.

    Parameters
    ----------
    kafka
        Of [kafka] and the broker: no secret, since it travels to the workers.
    group
        The consumer group.
    replica
        Whose slots they are.
    numbers
        Gives each slot its number.
    """

    def __init__(self, kafka: Mapping[str, Any], group: str, replica: str, numbers: Numbers) -> None:
        self._kafka, self._numbers = kafka, numbers
        self._group, self._replica = group, replica
        self._of: dict[str, str] = {}  # address -> name
        self._number: dict[str, int] = {}  # name -> number, of those that are not fenced
        self._turns: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)  # of an address
        self._fences: dict[str, asyncio.Task[None]] = {}
        self._lasting = NowAndThen(log)

    async def of(self, address: str, call: Call) -> tuple[str, str]:
        """The name of a worker's slot, and ""; opened if it has none. Or "", and why it cannot be opened.

        Parameters
        ----------
        address
            The worker's.
        call
            Has the worker open it.
        """
        async with self._turns[address]:
            if address in self._of:
                return self._of[address], ""
            try:
                number = await asyncio.to_thread(self._numbers.take)
            except BrokerError as error:
                return "", str(error)
            name = slot_name(self._group, self._replica, number)
            if why := await call(address, open_slot, self._kafka, name):
                self._numbers.done(number)  # whether it is opened or not: no work will be sent to it
                return "", why
            self._of[address], self._number[name] = name, number
            return name, ""

    async def retire(self, address: str, name: str) -> None:
        """Fence a slot, and return when that is done; the worker then gets another. Once, whoever asks.

        Parameters
        ----------
        address
            Of the worker that had it.
        name
            The slot's name.
        """
        if self._of.get(address) == name:
            del self._of[address]
        if name not in self._number:  # it was fenced before
            return
        if name not in self._fences:
            self._fences[name] = asyncio.create_task(self._fenced(name))
        await asyncio.shield(self._fences[name])
        self._fences.pop(name, None)
        if (number := self._number.pop(name, None)) is not None:
            self._numbers.done(number)

    async def fence(self, names: Iterable[str]) -> None:
        """Fence slots that partitions have for themselves, and return when that is done."""
        await asyncio.gather(*(self._fenced(name) for name in names))

    async def _fenced(self, name: str) -> None:
        """Fence it, however long that takes: nobody may have its work before."""
        while why := await asyncio.to_thread(fence_slot, self._kafka, name):
            self._lasting.warn("a worker's slot cannot be fenced, its work waits", f"{name}: {why}")
            await asyncio.sleep(_AGAIN_SECONDS)

    async def close(self, unfinished: Iterable[str], others: Iterable[str] = ()) -> None:
        """At the end of the run: fence the slots of these workers, whose work did not come back; each once.

        Parameters
        ----------
        unfinished
            Their addresses.
        others
            Names of slots that partitions have for themselves, to be fenced too.
        """
        names = {name for address in unfinished if (name := self._of.get(address))} | self._fences.keys()
        await asyncio.to_thread(fence_slots, self._kafka, names.union(others))


def fence_slots(kafka: Mapping[str, Any], names: Iterable[str]) -> set[str]:
    """Fence slots side by side, each once; those that cannot be fenced are told, and returned.

    Parameters
    ----------
    kafka
        Of [kafka] and the broker.
    names
        The slots' names.
    """
    wanted = sorted(names)
    if not wanted:
        return set()
    with ThreadPoolExecutor(min(_SIDE_BY_SIDE, len(wanted)), thread_name_prefix="fence") as threads:
        answers = dict(zip(wanted, threads.map(lambda name: fence_slot(kafka, name), wanted), strict=True))
    for name, why in answers.items():
        if why:
            words = "slot %s: a transaction may be open for some seconds, and hides what follows it: %s"
            log.warning(words, name, why)
    return {name for name, why in answers.items() if why}


def fence_slot(kafka: Mapping[str, Any], name: str) -> str:
    """Take a slot's name: who had it commits nothing any more. "" when that is done, else why not.

    Parameters
    ----------
    kafka
        Of [kafka] and the broker.
    name
        The slot's name.
    """
    producer = Producer({**client_settings(kafka[SERVERS], **kafka), "transactional.id": name})
    try:
        fence(producer, _FENCE_SECONDS)
    except KafkaException as error:
        return sentence(error.args[0])
    return ""
