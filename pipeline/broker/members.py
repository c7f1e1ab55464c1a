"""Consumer groups: static members that are there, what a fence means, and what is committed."""

from __future__ import annotations

import ctypes
import json
import logging
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from typing import Any, NamedTuple

from confluent_kafka import Consumer, ConsumerGroupState, KafkaError, KafkaException, TopicPartition

from pipeline.broker.client import SESSION_SECONDS, client_settings, instance_of
from pipeline.broker.partition import Partition

log = logging.getLogger(__name__)

_FENCES = (KafkaError._FATAL, KafkaError.FENCED_INSTANCE_ID)
"""poll() gives a fatal error as _FATAL, and fatal() of that is false (confluent-kafka 2.16)."""
LEAVE_SECONDS = 10.0
_ASK_SECONDS = 10.0
SETTLED_SECONDS = SESSION_SECONDS + 2.0
"""After so long in a stable group a member that does not live is none any more."""
_LOOK_AGAIN_SECONDS = 1.0
_BEGIN_SECONDS = 10.0  # of a process, on a busy machine


def is_fence(error: KafkaError) -> bool:
    """Whether a consumer is told that another has its name.

    That other may be itself: when the broker was away under a request to join, it answers both that one and
    the next, with a name for each, and fences the first.
    """
    return error.fatal() or error.code() in _FENCES


def abandon(consumer: Consumer) -> None:
    """Leave a static member as it is until its process ends: neither closed nor freed.

    Both would serve a rebalance that is under way. `assign` then waits within librdkafka, for ever where the
    broker was just away, and does not let go of the GIL (confluent-kafka 2.16): the whole process stands
    still and hears no signal. A static member keeps its place until its session ends, closed or not.
    """
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(consumer))


def called_back(function: Callable[..., None]) -> Callable[..., None]:
    """A function for librdkafka to call when partitions come and go.

    A KafkaException of the client itself that leaves such a function, seen by no line of Python, arrives
    where poll() was called as a KafkaError (confluent-kafka 2.16). That is no exception: nothing catches it.
    """

    @wraps(function)
    def seen(*args: Any) -> None:
        try:
            function(*args)
        except KafkaException:
            raise

    return seen


def leave(consumer: Consumer, seconds: float = LEAVE_SECONDS) -> bool:
    """Close a consumer; whether it has left its group within so many seconds.

    In the middle of a rebalance it may never come back: it is then left behind in a thread of its own, and
    its session ends by itself.

    Parameters
    ----------
    consumer
        Is not to be used any more.
    seconds
        To wait for it.
    """

    def close() -> None:
        try:
            consumer.close()
        except Exception as error:  # of a callback, which had its partitions taken away
            log.warning("leaving the group: %s", error)

    closing = threading.Thread(target=close, name="leave the group", daemon=True)
    closing.start()
    closing.join(seconds)
    return not closing.is_alive()


class Member(NamedTuple):
    """A member of a group: its id, its name if it is static, "" otherwise, and what it has."""

    id: str
    instance: str
    places: tuple[Partition, ...] = ()


class Described(NamedTuple):
    """What the broker says of a group."""

    state: ConsumerGroupState
    members: tuple[Member, ...]


Describe = Callable[[str], Described]
"""Says how a group is; raises KafkaException when that is not known."""


def described(kafka: Mapping[str, Any], group: str, timeout: float = 5.0) -> Described:
    """What the broker says of a group: its state, its members and what they have.

    Asked by a process of its own, which takes a third of a second of a core. A client that asks about a group
    whose coordinator is away, or has just come back, may bring its whole process down: librdkafka (2.16) then
    gives the same piece of memory free twice, in rd_kafka_admin_coord_request and for its error in
    rd_kafka_coord_req_fail (confluentinc/librdkafka#4605 has the same).

    Parameters
    ----------
    kafka
        Settings of a client.
    group
        The group.
    timeout
        Seconds to wait.

    Raises
    ------
    KafkaException
        When the broker does not answer in time, or refuses to.
    """
    settings = {key: value for key, value in kafka.items() if isinstance(value, str | int | float)}
    try:
        asked = subprocess.run(
            [sys.executable, "-m", "pipeline.broker.asking"],
            input=json.dumps([settings, group, timeout]),
            capture_output=True,
            text=True,
            timeout=timeout + _BEGIN_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise KafkaException(KafkaError(KafkaError._TIMED_OUT)) from None
    if not asked.stdout:
        log.debug("who asked about group %s ended with %d: %s", group, asked.returncode, asked.stderr[-2000:])
        raise KafkaException(KafkaError(KafkaError._TRANSPORT))
    told = json.loads(asked.stdout)
    if "code" in told:
        raise KafkaException(KafkaError(told["code"], told["words"]))
    members = [
        Member(one["id"], one["instance"], tuple(Partition(*place) for place in one["places"]))
        for one in told["members"]
    ]
    return Described(ConsumerGroupState[told["state"]], tuple(members))


def replicas(kafka: Mapping[str, Any], group: str, timeout: float = 5.0) -> list[str]:
    """The replicas of a group that are there now. Raises KafkaException.

    Parameters
    ----------
    kafka
        Settings of a client.
    group
        The group.
    timeout
        Seconds to wait.
    """
    names = [member.instance for member in described(kafka, group, timeout).members]
    return [name.removeprefix(instance_of(group, "")) for name in names]


class Takeover:
    """Whether another has the name of a member that was fenced, or nobody has.

    Its own last request to join may have left a member behind, for which nobody answers any more. The group
    drops that one after a session, which begins when the group has settled and again when its broker does.
    So only a member that stays the same one, for longer than that and in a stable group, is alive.

    Parameters
    ----------
    group
        The consumer group.
    replica
        The member's name in it.
    clock
        Seconds, ever growing.
    """

    def __init__(self, group: str, replica: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._group, self._name, self._clock = group, instance_of(group, replica), clock
        self._fenced = clock()
        self._asked = -_LOOK_AGAIN_SECONDS
        self._seen, self._since = "", 0.0  # the id of the member that has the name, and since when it does

    def look(self, describe: Describe) -> bool | None:
        """True: another has it. False: nobody has. None: not known yet.

        Parameters
        ----------
        describe
            Asks the broker; called at most once a second.
        """
        if (now := self._clock()) - self._asked < _LOOK_AGAIN_SECONDS:
            return None
        self._asked = now
        try:
            group = describe(self._group)
        except KafkaException as error:
            log.debug("the members of the group are not known yet: %s", error)
            self._seen = ""
            return None
        has = next((member.id for member in group.members if member.instance == self._name), "")
        if not has:
            self._seen = ""
            return False if self._clock() - self._fenced >= SETTLED_SECONDS else None
        if has != self._seen or group.state != ConsumerGroupState.STABLE:
            self._seen, self._since = has, self._clock()
        return True if self._clock() - self._since >= SETTLED_SECONDS else None


def committed(group: str, places: Sequence[Partition], bootstrap: str, **kafka: Any) -> list[TopicPartition]:
    """What a group has committed in each partition: offsets with their metadata, negative where it has none.

    Parameters
    ----------
    group
        The consumer group.
    places
        The partitions.
    bootstrap
        Address of the broker, host:port.
    kafka
        librdkafka's own keys.

    Raises
    ------
    KafkaException
        When the broker does not answer.
    """
    if not places:
        return []
    # Read uncommitted: a transaction that a dead worker left open would hold the question up.
    settings = {"group.id": group, "isolation.level": "read_uncommitted"}
    consumer = Consumer({**client_settings(bootstrap, **kafka), **settings})
    try:
        told: list[TopicPartition] = consumer.committed([TopicPartition(*p) for p in places], _ASK_SECONDS)
        return told
    finally:
        consumer.close()
