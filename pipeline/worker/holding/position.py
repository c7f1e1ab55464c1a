"""Where a group stands in a partition: an offset, and of which topic it is.

AN OFFSET HAS AN IDENTITY. A topic that is deleted and made again keeps its name, and offsets committed before
then belong to another topic. So each commit carries the id of its topic in its metadata, beside the version
of the channels, and the leader epoch of its last record. An offset of another topic counts as none: the new
topic is read from its beginning. What can no longer be read is a loss, never silence.
"""

from __future__ import annotations

from dataclasses import dataclass

from confluent_kafka import OFFSET_INVALID, TopicPartition

from pipeline.broker.partition import Partition


@dataclass(frozen=True)
class Standing:
    """Where to go on in a partition.

    offset: of the next record. epoch: leader epoch of the record before, -1 where it is not known. version:
    of the channels in force, "" before the first commit. memory: what limits remember of the partition
    (`pipeline.worker.holding.remembered`). loss: what was never read and cannot be any more, or
    why that may be; "" when nothing is lost. low, high: the offsets that are lost, equal when not known.
    made_again: the topic is not the one in which the group had stood.
    """

    offset: int
    epoch: int = -1
    version: str = ""
    memory: str = ""
    loss: str = ""
    low: int = 0
    high: int = 0
    made_again: bool = False


def metadata_of(version: str, topic_id: str, memory: str = "") -> str:
    """What a commit says beside its offset.

    Parameters
    ----------
    version : str
        Of the channels in force.
    topic_id : str
        Of the topic that the offset is of.
    memory : str
        What limits remember of the partition.
    """
    return f"{version} {topic_id} {memory}".rstrip()


def standing(committed: TopicPartition, topic_id: str, beginning: int, end: int | None = None) -> Standing:
    """What a group's committed offset means for the topic that is there now.

    Parameters
    ----------
    committed : TopicPartition
        As Consumer.committed gives it.
    topic_id : str
        Of the topic that has the name now; "" where nobody asked.
    beginning : int
        The first offset that can be read.
    end : int, optional
        The last stable offset, given by who has seen for a while that the committed offset is beyond it.

    Returns
    -------
    Standing
    """
    version, was, memory = [*(committed.metadata or "").split(" "), "", "", ""][:3]
    if committed.offset == OFFSET_INVALID:
        return Standing(beginning)
    if was and topic_id and was != topic_id:
        return Standing(beginning, version=version, made_again=True)
    if committed.offset < beginning:
        words = f"offsets {committed.offset} to {beginning - 1} were deleted before they were read"
        return Standing(beginning, -1, version, memory, words, committed.offset, beginning)
    if end is not None and committed.offset > end:
        words = f"the committed offset {committed.offset} was beyond the end of the topic, {end}"
        return Standing(end, -1, version, memory, words, end, end)
    epoch = committed.leader_epoch
    return Standing(committed.offset, -1 if epoch is None else epoch, version, memory)


def as_topic_partition(partition: Partition, offset: int, epoch: int, metadata: str = "") -> TopicPartition:
    """The offset for confluent-kafka, which then notices when the log was truncated below it.

    Parameters
    ----------
    partition
        The partition.
    offset
        The next offset to read or to commit.
    epoch
        Leader epoch of the record before; -1: unknown.
    metadata
        Metadata of a commit.
    """
    if epoch < 0:
        return TopicPartition(*partition, offset, metadata)
    return TopicPartition(*partition, offset, metadata, epoch)
