"""What users ask about channels of their own, and what is answered: two topics for each user.

A Kafka record does not say who wrote it. So each user may write only zads.requests.NAME and read only
zads.answers.NAME, and who asks is told by the topic alone, whatever the request says. A request has an id: if
it arrives twice, it is done once.
"""

from __future__ import annotations

import time
import uuid
from contextlib import suppress
from typing import Any, Literal

from confluent_kafka import KafkaError, Producer
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from filters.sandbox.uploaded import MOST_TEXT
from pipeline.access.lists import FilePart, ListRequest
from pipeline.access.roles import ANSWERS, REQUESTS
from pipeline.broker.client import BrokerError, producer_settings, sentence
from pipeline.broker.listen import Listener
from pipeline.broker.topics import configure_topics, ensure_topics
from pipeline.channels.channel import Access

Action = Literal[
    "create", "clone", "set", "test", "enable", "pause", "retire", "list", "show", "diff", "explain"
]
REQUEST_BYTES = 3_000_000
ANSWER_BYTES = 900_000
"""A topic that says nothing else takes records of 1 MB."""
MOST_PREVIEWED = 50
_SETTINGS = {"retention.ms": str(30 * 86_400_000)}
_SEND_SECONDS = 20.0


class Request(BaseModel):
    """One wish about a channel.

    channel: its name without the owner's. source: a channel or filter to clone, or to compare with.
    revision: to compare with. alert: candid or objectId of the archive, to be explained. text: of a Python
    file, whose filter is then FILE.py:FUNCTION. readers: who may read it beside its owner, "*" for
    everybody. preview: so many of the last matches are to come with the answer. What is None stays as it
    is.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    action: Action
    channel: str = Field(default="", max_length=100)
    id: str = Field(default_factory=lambda: uuid.uuid4().hex, max_length=64)
    source: str = Field(default="", max_length=100)
    revision: int | None = None
    alert: str = Field(default="", max_length=100)
    filter: str = Field(default="", max_length=100)
    text: str = Field(default="", max_length=MOST_TEXT)
    where: str = Field(default="", max_length=2000)
    parameters: dict[str, float | int | str | bool | dict[str, Any]] = Field(
        default_factory=dict, max_length=100
    )
    alerts_per_hour: int | None = None
    preview: int = Field(default=0, ge=0, le=MOST_PREVIEWED)
    readers: tuple[str, ...] | None = Field(default=None, max_length=100)
    access: Access | None = None
    why: str = Field(default="", max_length=500)


class Answer(BaseModel):
    """What became of the request of this id. traceback: of the user's own code, where that raised.
    preview: what the channel would have delivered last, by the archive. explained: of each alert that was
    asked about, what each cut saw and said. missing: parts of a file that have not come.

    id "": nobody asked; a channel of the user's has been suspended.
    """

    model_config = ConfigDict(frozen=True)

    id: str
    done: bool
    text: str
    hint: str = ""
    traceback: str = ""
    preview: tuple[dict[str, Any], ...] = ()
    explained: tuple[dict[str, Any], ...] = ()
    missing: tuple[int, ...] = ()

    def within(self, size: int) -> Answer:
        """This answer or, when it has more bytes than `size`, that it is too long."""
        if len(self.model_dump_json().encode()) <= size:
            return self
        return Answer(id=self.id, done=self.done, text="done, and the answer is too long to be sent")


def ensure_request_topics(users: list[str], bootstrap: str, **kafka: Any) -> None:
    """Make the topics of users; those that are there are given the limits of today.

    Parameters
    ----------
    users
        Their names.
    bootstrap, kafka
        The broker, and librdkafka's own keys.

    Raises
    ------
    BrokerError
        When the broker refuses.
    """
    requests = [REQUESTS + name for name in users]
    small = {**_SETTINGS, "max.message.bytes": str(REQUEST_BYTES)}
    ensure_topics(bootstrap, requests, partitions=1, config=small, **kafka)
    ensure_topics(bootstrap, [ANSWERS + name for name in users], partitions=1, config=_SETTINGS, **kafka)
    configure_topics(bootstrap, requests, small, **kafka)


def read_request(raw: bytes) -> Request | ListRequest | FilePart:
    """A request in bytes that anybody may have written. Raises ValidationError."""
    kinds: tuple[type[ListRequest | FilePart], ...] = (FilePart, ListRequest)
    for kind in kinds:
        with suppress(ValidationError):
            return kind.model_validate_json(raw)
    return Request.model_validate_json(raw)


def ask(
    request: Request | ListRequest, user: str, bootstrap: str, seconds: float = 120.0, **kafka: Any
) -> Answer:
    """Send a request and wait for its answer.

    Parameters
    ----------
    request
        What is wished.
    user
        Who wishes it: the user of the profile in use.
    bootstrap, kafka
        The broker, and librdkafka's own keys.
    seconds
        How long to wait.

    Raises
    ------
    BrokerError
        When the broker refuses it, or nobody answers in time.
    """
    with Listener(ANSWERS + user, bootstrap, from_beginning=False, **kafka) as answers:
        write(REQUESTS + user, request, bootstrap, **kafka)
        deadline = time.monotonic() + seconds
        for batch in answers.batches():
            for record in batch:
                answer = Answer.model_validate_json(record.raw)
                if answer.id == request.id:
                    return answer
            if time.monotonic() > deadline:
                break
    raise BrokerError(
        f"nobody has answered within {seconds:g} s",
        hint="is `zads serve` running? The request stays in its queue",
    )


def write(topic: str, message: BaseModel, bootstrap: str, **kafka: Any) -> None:
    """Write a request or an answer.

    Parameters
    ----------
    topic
        Where to.
    message
        The request or answer.
    bootstrap, kafka
        The broker, and librdkafka's own keys.

    Raises
    ------
    BrokerError
        When the broker does not take it.
    """
    failed: list[KafkaError] = []
    producer = Producer(producer_settings(bootstrap, **kafka))
    producer.produce(
        topic,
        message.model_dump_json().encode(),
        partition=0,
        on_delivery=lambda error, _: failed.append(error) if error else None,
    )
    if producer.flush(_SEND_SECONDS) or failed:
        raise BrokerError(f"{topic}: {sentence(failed[0]) if failed else 'the broker does not answer'}")
