"""What each run says of itself every few seconds, for whoever asks from elsewhere: the topic zads.state.

Compacted, one record for each group and replica, so what a run said last stays when it is gone.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pipeline.broker.listen import everything_in

log = logging.getLogger(__name__)

STATE_TOPIC = "zads.state"
STATE_SETTINGS = {
    "cleanup.policy": "compact,delete",
    "retention.ms": str(7 * 24 * 3_600_000),
    # Compaction leaves the newest segment as it is: with Kafka's own 1 GB nothing would ever be compacted.
    "segment.ms": "600000",
    "segment.bytes": str(4 * 2**20),
}
STATE_SECONDS = 10.0
"""A run says how it is at least so often."""

FAILED = "it failed: "
"""Begins `RunState.ended` where nobody had told the run to end."""

Lasting = Literal["retrying", "set aside", "in flight", "waiting", "not known"]
"""A state of a partition that is worth telling when it lasts."""


class _Told(BaseModel):
    """Fields of a later version are left out."""

    model_config = ConfigDict(frozen=True)


class Stuck(_Told):
    """A partition that has been in one state for long.

    partition: topic/number. since: Unix time, s. attempts: that went wrong. why: "" where nothing is known.
    """

    partition: str
    state: Lasting
    since: float
    attempts: int = 0
    why: str = ""


class ChannelState(_Told):
    """A channel of a run.

    Since the run began: delivered: alerts. missed: records in gaps. raised: alerts that its filter raised on.
    suspended: why it does not run now. remark: what is surprising about it.
    """

    topic: str = ""
    delivered: int = 0
    missed: int = 0
    raised: int = 0
    suspended: str = ""
    remark: str = ""


class Change(_Told):
    """Something that happened: at: Unix time, s."""

    at: float
    words: str


class RunState(_Told):
    """How a run is.

    began, at: Unix times of its start and of this record, s. ended: why it has, "" while it goes on. rate:
    alerts a second, over ten seconds. half_within, most_within: seconds within which half and 99 % of the
    batches of the last minute were done, from the arrival of their first record to their commit; None: there
    were none, or it took longer than all that is told apart. partitions, lag: of this replica. stuck: at most
    a few, and `stuck_in_all` how many. topics: all that it has read since it began. lost: partition or topic
    -> what can no longer be read. dead_letters: reason -> records. changes: the oldest first.
    """

    group: str
    replica: str
    host: str
    pid: int
    began: float
    at: float
    ended: str = ""
    workers: int = 0
    records: int = 0
    alerts: int = 0
    rate: float = 0.0
    half_within: float | None = None
    most_within: float | None = None
    partitions: int = 0
    lag: int = 0
    stuck: tuple[Stuck, ...] = ()
    stuck_in_all: int = 0
    topics: tuple[str, ...] = ()
    lost: dict[str, str] = Field(default_factory=dict)
    dead_letters: dict[str, int] = Field(default_factory=dict)
    channels_on: int = 0
    channels: dict[str, ChannelState] = Field(default_factory=dict)
    changes: tuple[Change, ...] = ()

    @property
    def named(self) -> str:
        """For a sentence."""
        return f"replica {self.replica} of group {self.group}"

    @property
    def key(self) -> bytes:
        """Of its record."""
        return f"{self.group}/{self.replica}".encode()

    @property
    def suspended(self) -> dict[str, str]:
        """Channel -> why it does not run now."""
        return {name: one.suspended for name, one in self.channels.items() if one.suspended}


def states(bootstrap: str, groups: Iterable[str], **kafka: Any) -> list[RunState]:
    """What every replica of some groups has said last, within a week.

    Parameters
    ----------
    bootstrap
        Address of the broker, host:port.
    groups
        Names of the groups.
    kafka
        librdkafka's own keys.

    Raises
    ------
    BrokerError
        When the broker does not answer.
    """
    wanted, latest = set(groups), {}
    for record in everything_in(STATE_TOPIC, bootstrap, **kafka):
        try:
            told = RunState.model_validate_json(record.raw)
        except ValidationError as error:
            log.warning("%s/%d cannot be read: %s", STATE_TOPIC, record.offset, error)
            continue
        if told.group in wanted:
            latest[record.key] = told
    return sorted(latest.values(), key=lambda one: (one.group, one.replica))
