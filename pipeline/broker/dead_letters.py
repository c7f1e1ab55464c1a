"""Records that could not be delivered, kept with the reason, and how to read them again.

A dead letter is a record of the topic "zads.dead-letters": its key says where the original came from
("topic/partition/offset"), its value is the original's bytes untouched, its headers say what was wrong.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

from pipeline.broker.client import MESSAGE_MAX_BYTES, SIZED, NoSuchTopic
from pipeline.broker.listen import Alert, everything_in, record_at, whole
from schemas.errors import ZadsError

TOPIC = "zads.dead-letters"
SETTINGS = {**SIZED, "retention.ms": str(90 * 86_400_000)}
"""Dead letters are kept for 90 days: longer than the topics that they come from, usually."""
Stage = Literal["decode", "filter", "publish"]

# What the record format and the producer's estimate of it take beyond value, key and headers.
_OVERHEAD = 1_024
_LONGEST_DETAIL = 2_000


class NoSuchDeadLetter(ZadsError):
    """No dead letter has that number or came from that place."""


def dead_letter_record(
    *,
    stage: Stage,
    reason: str,
    detail: str,
    topic: str | None = None,
    partition: int | None = None,
    offset: int | None = None,
    value: bytes | None = None,
    largest: int = MESSAGE_MAX_BYTES,
    **more: Any,
) -> dict[str, Any]:
    """Keyword arguments for `Producer.produce` that dead-letter one record.

    Parameters
    ----------
    stage
        Where it failed.
    reason
        Why, in kebab-case ("truncated").
    detail
        One sentence.
    topic, partition, offset
        Where the record came from; None when it came from a file.
    value
        The original bytes.
    largest
        Largest size of the dead letter, bytes. A larger one has an empty value, and the header `oversize` has
        the size of the original in bytes.
    more
        Further headers (channel, candid, objectId, file, …); None leaves a header out.
    """
    came_from = None if topic is None else f"{topic}/{partition}/{offset}"
    words: dict[str, Any] = {"stage": stage, "reason": reason, "detail": detail[:_LONGEST_DETAIL]}
    words |= {"topic": topic, "partition": partition, "offset": offset, **more}
    words["at"] = datetime.now(UTC).isoformat(timespec="milliseconds")
    headers = [(name, str(word).encode()) for name, word in words.items() if word is not None]
    key = (came_from or str(more.get("file") or "")).encode()
    size = len(value or b"") + len(key) + sum(len(name) + len(word) for name, word in headers) + _OVERHEAD
    if size > largest:
        headers.append(("oversize", str(len(value or b"")).encode()))
        value = b""
    return {"topic": TOPIC, "key": key, "value": value, "headers": headers}


@dataclass(frozen=True)
class DeadLetter:
    """One record that could not be delivered.

    number counts from 1 in the order of listing; topic, partition, offset tell where the original is
    (None when it came from a file); value is its bytes, empty when `oversize` is set; size is theirs
    in bytes; at is the UTC time, in ISO 8601, of the dead letter; headers are all headers as text.
    """

    number: int
    stage: str
    reason: str
    detail: str
    topic: str | None
    partition: int | None
    offset: int | None
    value: bytes = field(repr=False)
    channel: str | None = None
    candid: int | None = None
    objectId: str | None = None
    file: str | None = None
    oversize: int | None = None
    size: int = 0
    at: str | None = None
    headers: dict[str, str] = field(default_factory=dict, repr=False)

    @property
    def source(self) -> str:
        """Where the original is: "topic/partition/offset", or the file's name."""
        return self.file or "?" if self.topic is None else f"{self.topic}/{self.partition}/{self.offset}"

    def as_json(self) -> dict[str, Any]:
        """Everything but the bytes, as plain JSON values."""
        names = ("number", "stage", "reason", "topic", "partition", "offset", "channel", "candid", "objectId")
        return {name: getattr(self, name) for name in (*names, "file", "size", "oversize", "at", "detail")}


def dead_letters(bootstrap: str = "localhost:9092", **kafka: Any) -> Iterator[DeadLetter]:
    """The dead letters there are now, oldest first within each partition; nothing when there never was one.

    Raises BrokerError when no broker answers.
    """
    for number, alert in enumerate(everything_in(TOPIC, bootstrap, **kafka), start=1):
        yield from_alert(alert, number)


def from_alert(alert: Alert, number: int) -> DeadLetter:
    """A dead letter from the Kafka record that holds it."""
    headers = alert.headers
    return DeadLetter(
        number=number,
        stage=headers.get("stage", "?"),
        reason=headers.get("reason", "?"),
        detail=headers.get("detail", ""),
        topic=headers.get("topic"),
        partition=whole(headers.get("partition")),
        offset=whole(headers.get("offset")),
        value=alert.raw,
        channel=headers.get("channel"),
        candid=whole(headers.get("candid")),
        objectId=headers.get("objectId"),
        file=headers.get("file"),
        oversize=(oversize := whole(headers.get("oversize"))),
        size=oversize or len(alert.raw),
        at=headers.get("at"),
        headers=headers,
    )


def find(letters: Iterable[DeadLetter], where: str) -> list[DeadLetter]:
    """The letters with number `where`, or from "topic/partition/offset" or the file `where`.

    Several may come from one place: one record can fail in several channels. Raises NoSuchDeadLetter.
    """
    found, count, last = [], 0, None
    for letter in letters:
        count, last = count + 1, letter.source
        if where in (str(letter.number), letter.source):
            found.append(letter)
    if not found:
        known = f"there are {count:,}, the last from {last}" if count else "there are none"
        raise NoSuchDeadLetter(f"no dead letter {where!r}: {known}; `zads dead-letters list` shows them")
    return found


def original(letter: DeadLetter, bootstrap: str = "localhost:9092", **kafka: Any) -> bytes:
    """The bytes that could not be delivered: from the letter or, when they did not fit into it, from their
    source.

    Parameters
    ----------
    letter
        The dead letter.
    bootstrap
        Address of the broker, host:port.
    kafka
        librdkafka's own keys.

    Raises
    ------
    NoSuchDeadLetter
        When the source no longer has them.
    BrokerError
        When the broker does not answer.
    """
    if letter.oversize is None:
        return letter.value
    if letter.topic is None or letter.partition is None or letter.offset is None:
        raise NoSuchDeadLetter(
            f"its {letter.oversize:,} bytes did not fit into a record; they are in {letter.source}"
        )
    try:
        record = record_at(letter.topic, letter.partition, letter.offset, bootstrap, **kafka)
    except NoSuchTopic:
        record = None
    if record is None:
        raise NoSuchDeadLetter(
            f"its {letter.oversize:,} bytes did not fit into a record, and {letter.source} is no longer there"
        )
    return record.raw
