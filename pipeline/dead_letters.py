"""Records that could not be delivered, kept with the reason, and how to read them again.

A dead letter is a record of the topic "zads.dead-letters": its key says where the original came from
("topic/partition/offset"), its value is the original's bytes untouched, its headers say what was wrong.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

from pipeline.listen import Alert, listen
from schemas.errors import ZadsError

TOPIC = "zads.dead-letters"
Stage = Literal["decode", "filter", "publish"]

# librdkafka's default message.max.bytes, which brokers' defaults lie just above.
LARGEST_RECORD = 1_000_000
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
    largest: int = LARGEST_RECORD,
    **more: Any,
) -> dict[str, Any]:
    """Keyword arguments for `Producer.produce` that dead-letter one record.

    stage, reason: where it failed and why, `reason` in kebab-case ("truncated"); detail: one sentence.
    topic, partition, offset: where the record came from; none of them when it came from a file.
    value: the original bytes. A record that would be larger than `largest` bytes goes by reference: the
    value is empty and the header `oversize` holds its size in bytes.
    more: further headers (channel, candid, objectId, file ...); None leaves a header out.
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
    (None when it came from a file); value is its bytes, empty when `oversize` (bytes) is set; at is the
    UTC time in ISO 8601 at which it was given up; headers are all headers as text.
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
    at: str | None = None
    headers: dict[str, str] = field(default_factory=dict, repr=False)

    @property
    def source(self) -> str:
        """Where the original is: "topic/partition/offset", or the file's name."""
        return self.file or "?" if self.topic is None else f"{self.topic}/{self.partition}/{self.offset}"

    def as_json(self) -> dict[str, Any]:
        """Everything but the bytes, as plain JSON values."""
        names = ("number", "stage", "reason", "topic", "partition", "offset", "channel", "candid", "objectId")
        plain = {name: getattr(self, name) for name in (*names, "file", "oversize", "at", "detail")}
        return plain | {"bytes": self.oversize or len(self.value)}


def dead_letters(bootstrap: str = "localhost:9092", **kafka: Any) -> Iterator[DeadLetter]:
    """The dead letters there are now, oldest first within each partition; nothing when there never was one.

    Raises BrokerError when no broker answers.
    """
    from pipeline.kafka import topic_names

    if TOPIC not in topic_names(bootstrap, **kafka):
        return
    for number, alert in enumerate(listen(TOPIC, bootstrap, until_drained=True, **kafka), start=1):
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
        partition=_whole(headers.get("partition")),
        offset=_whole(headers.get("offset")),
        value=alert.raw,
        channel=headers.get("channel"),
        candid=_whole(headers.get("candid")),
        objectId=headers.get("objectId"),
        file=headers.get("file"),
        oversize=_whole(headers.get("oversize")),
        at=headers.get("at"),
        headers=headers,
    )


def _whole(text: str | None) -> int | None:
    """An integer header, None where it is missing or is none."""
    return int(text) if text is not None and text.lstrip("-").isdigit() else None


def find(letters: Sequence[DeadLetter], where: str) -> list[DeadLetter]:
    """The letters with number `where`, or from "topic/partition/offset" or the file `where`.

    Several may come from one place: one record can fail in several channels. Raises NoSuchDeadLetter.
    """
    found = [letter for letter in letters if where in (str(letter.number), letter.source)]
    if not found:
        some = ", ".join(letter.source for letter in letters[:3])
        known = f"there are {len(letters)}, such as {some}" if letters else "there are none"
        raise NoSuchDeadLetter(f"no dead letter {where!r}: {known}; `zads dead-letters list` shows them")
    return found
