"""Messages between the coordinator and the workers: a range of offsets out, a report back.

Packets never travel through the scheduler. A worker reads the bytes of its range itself, so a
descriptor is a few hundred bytes whatever the alerts weigh.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from pipeline.broker.client import client_settings
from pipeline.broker.partition import Partition
from pipeline.broker.profile import SERVERS


@dataclass(frozen=True)
class Work:
    """One batch: the records of `partition` with low <= offset < high.

    Ranges may have gaps (transaction markers, compaction), so a range says nothing about how many
    records it holds. `ask` has the worker ask Kafka where the group stands before it reads, whatever it
    remembers: somebody else may have committed meanwhile.
    """

    partition: Partition
    low: int
    high: int
    attempt: int
    ask: bool
    run: str  # names the coordinator's run
    flight: int  # the same for all attempts at one batch
    group: str
    membership: object  # ConsumerGroupMetadata of the coordinator's present generation
    kafka: dict[str, str]  # of [kafka] and the broker: no secret
    channels: bytes  # a cloudpickled ChannelSet
    version: str  # of that channel set and of the code
    filter_seconds: float = 20.0
    failing_alerts: int = 20  # more than these in a batch, and the filter itself has failed
    schemas: str = ""  # folder or registry of schemas for packets that only name theirs
    suspended: dict[str, str] = field(default_factory=dict)  # channel -> why it is not run
    topic_id: str = ""  # of the topic, as the coordinator saw it last; "": nobody asked
    beyond: bool = False  # the coordinator has seen for a while that the committed offset is beyond the end
    control: bool = False  # do everything but the records: does a worker that does not see them live?
    unreadable: str = ""  # a single record that ends its workers: dead-letter it unread, for this reason
    own_slot: bool = False  # the partition has a transactional producer for itself (worker.holding.slot)
    party: str = ""  # another attempt that may go with others of this name, part of what was together

    @property
    def client(self) -> dict[str, Any]:
        """Settings for a Kafka client here, with the credentials of the process that asks."""
        return client_settings(self.kafka[SERVERS], **self.kafka)

    @property
    def key(self) -> str:
        """Unique for each attempt, so that Dask never answers one attempt with another's result."""
        return f"zads-{self.run}-{self.partition}-{self.low}-{self.high}-{self.flight}-{self.attempt}"

    @property
    def kin(self) -> tuple[object, ...] | None:
        """Equal for pieces of work that may go to a worker as one task; None: it goes alone.

        A second attempt goes alone, because what failed once must not take much other work with it; or with
        its party, when they were in one task before. All of one task belong to one generation of the group,
        since their offsets are committed together, under one proof of membership.
        """
        if (self.attempt > 1 and not self.party) or self.unreadable or self.control:
            return None
        return (self.version, frozenset(self.suspended), self.membership, self.party)


@dataclass(frozen=True)
class ChannelFailure:
    """A filter that raised: what the operator needs to mend it."""

    channel: str
    message: str
    traceback: str


@dataclass(frozen=True)
class Refused:
    """One dead letter of a batch. channel: whose, "" for a record that nobody can read."""

    offset: int
    reason: str
    detail: str
    channel: str = ""
    candid: int | None = None


Outcome = Literal[
    "committed",
    "moved",
    "stale",
    "retry",
    "too much",
    "output",
    "input",
    "setup",
    "culprit",
    "control",
    "raised",
    "together",
    "died",
]


@dataclass
class Report:
    """What became of a piece of work.

    committed: delivered, the offset stands at `high`.
    moved: the committed offset was not `low` but `offset`; nothing was done.
    stale: fenced, or the coordinator's generation has passed, or its channels are older than those in force
        in the partition, or the topic was made again; nothing was delivered.
    retry: Kafka failed in a way that may pass; nothing was delivered.
    too much: the batch does not fit its time limit; nothing was delivered.
    output: the topics of the channels in `outputs` do not take records; nothing was delivered.
    input: the partition cannot be read.
    setup: nothing will be done until somebody changes a setting.
    culprit: the attempt before this one ended its worker while the filter `culprit` was running, or
        while none was (""); nothing was done.
    control: the work without its records went well; nothing was done.
    raised: our own code failed on it; nothing was delivered.
    together: it could not be committed together with others, or not in time; nothing was delivered. With
        fewer of them, those of `party`, it may be, or alone.
    died: said by the coordinator itself: the worker ended before it answered, perhaps before it began.
    """

    work: Work
    outcome: Outcome
    offset: int = -1
    message: str = ""
    culprit: str = ""
    outputs: tuple[str, ...] = ()
    traceback: str = ""
    records: int = 0
    bytes: int = 0
    alerts: int = 0
    objects: list[int] = field(default_factory=list)  # 64-bit hashes of objectId
    matches: dict[str, list[str]] = field(default_factory=dict)  # channel -> objectId of each passing alert
    dead_letters: dict[str, int] = field(default_factory=dict)  # reason -> count
    refusals: list[Refused] = field(default_factory=list)  # dead letters: one of each reason and channel
    other_surveys: dict[str, int] = field(default_factory=dict)
    not_public: int = 0
    hidden: dict[str, int] = field(default_factory=dict)  # field cut out of public copies -> packets
    limited: dict[str, int] = field(default_factory=dict)  # channel -> alerts that its limits stopped
    set_aside: dict[str, int] = field(default_factory=dict)  # channel -> alerts that its filter raised on
    failures: list[ChannelFailure] = field(default_factory=list)
    lost: str = ""  # what can no longer be read: committed, said in the gaps of this commit; moved, not yet
    skipped: list[str] = field(default_factory=list)  # channels that have a gap here
    chances: list[str] = field(default_factory=list)  # of these, who goes on, and why there is a gap
    seconds: dict[str, float] = field(default_factory=dict)  # stage -> time used
    filter_seconds: dict[str, float] = field(default_factory=dict)  # channel -> time used
    waited: float | None = None  # the first record, from when it was written to its commit, s
    party: str = ""  # of the next attempt
    open: bool = False  # whoever asks must fence the slot first: its transaction may be open, or committed


def again_together(works: Sequence[Work], why: str, is_open: bool = False) -> list[Report]:
    """Reports on work that could not be begun for a reason that may pass, and is none of its own.

    Parameters
    ----------
    works
        What went to a worker as one task, and is to go as one again.
    why
        The reason.
    is_open
        Whether somebody may have begun it all the same.
    """
    party = works[0].key if len(works) > 1 else ""
    return [Report(work, "retry", message=why, party=party, open=is_open) for work in works]
