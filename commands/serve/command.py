"""`zads serve`: gives each user the rights of their role, and answers what users ask about their channels."""

from __future__ import annotations

import logging
import threading
import time
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

import typer

from commands.serve.queues import ByUser
from commands.shared.options import Archive, Bootstrap, Config, people, settings_of

if TYPE_CHECKING:
    from commands.serve.service import Service
    from commands.serve.watch import Watch
    from pipeline.access.users import User
    from pipeline.broker.listen import Alert, Listener
    from pipeline.channels.config import RunConfig
    from pipeline.clients.delivered import Delivered

log = logging.getLogger(__name__)

_LOOK_SECONDS = 1.0
_AGAIN_SECONDS = 2.0
_GROUP = "zads-serve"
_MOST_WAITING = 100
"""Requests of one user that are read and not answered yet; more of them wait at the broker."""
_BYTES = 50_000
"""Of a request that count as one more."""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("serve")(serve)


def serve(archive: Archive = None, config: Config = None, bootstrap: Bootstrap = None) -> None:
    """Serve the users of a secured broker: rights to topics that are new, and channels of their own.

    It alone needs the operator's rights, so `zads run` and its workers do without. Ctrl-C ends it; requests
    wait until it runs again.

    Example: `zads serve --as operator`
    """
    from commands.serve.service import Service
    from commands.serve.watch import Watch
    from commands.serve.writer import Writer
    from pipeline.clients.delivered import Delivered

    settings = settings_of(config, bootstrap_servers=bootstrap)
    people.print(f"serving the users of {settings.bootstrap_servers}")
    delivered, registry = Delivered(), Writer(settings)
    desk = Desk(
        settings,
        Service(settings, archive, delivered, registry),
        Watch(registry, delivered, settings.externals),
        delivered,
    )
    try:
        desk.run()
    except KeyboardInterrupt:
        people.print("stopped")


class Desk:
    """Rights as they change, and requests as they come.

    Those of one user are done one after the other, those of several users side by side.

    Parameters
    ----------
    settings
        The configuration.
    service
        Answers requests.
    watch
        Pauses what may not go on.
    delivered
        What the channels have delivered in the newest night.
    """

    def __init__(self, settings: RunConfig, service: Service, watch: Watch, delivered: Delivered) -> None:
        self._settings, self._service, self._watch, self._delivered = settings, service, watch, delivered
        self._users: dict[str, User] = {}
        self._seen: object = None
        self._looked = 0.0
        self._told: dict[str, str] = {}  # channel -> why it is suspended, as its owner has been told
        self._rights = threading.Lock()
        self._requests: Listener | None = None
        self._queues = ByUser(_MOST_WAITING, self._hold, self._go_on)

    def run(self) -> None:
        """Until somebody interrupts."""
        from confluent_kafka import KafkaException

        from pipeline.access.requests import ensure_request_topics
        from pipeline.access.users import lay_out, present, read_users
        from pipeline.broker.client import BrokerError

        broker, kafka = self._settings.bootstrap_servers, self._settings.client
        lay_out(broker, **kafka)
        ensure_request_topics(list(present(read_users(broker, **kafka))), broker, **kafka)
        self._delivered.follow(self._settings)
        while True:
            try:
                self._attend()
            except (BrokerError, KafkaException) as error:
                log.warning("the users cannot be served, trying again: %s", error)
                time.sleep(_AGAIN_SECONDS)

    def _attend(self) -> None:
        from pipeline.access.roles import REQUESTS
        from pipeline.broker.listen import Listener
        from pipeline.channels.gaps import GAPS_TOPIC

        asked, missed = (name.replace(".", "[.]") for name in (REQUESTS, GAPS_TOPIC))
        pattern, broker = f"^({asked}.*|{missed})$", self._settings.bootstrap_servers
        with Listener(pattern, broker, group=_GROUP, **self._settings.client) as requests:
            self._requests = requests
            for batch in requests.batches():
                self._keep_rights()
                for record in batch:
                    if record.topic == GAPS_TOPIC:
                        self._tell_owner(record)
                        requests.has_read(record)
                    else:
                        user = record.topic.removeprefix(REQUESTS)
                        weight = 1 + len(record.raw) // _BYTES
                        self._queues.put(user, partial(self._answer, requests, user, record), weight)

    def _answer(self, requests: Listener, user: str, record: Alert) -> None:
        """Do it, give the rights that follow, and only then say so. It is tried until the broker takes it."""
        from confluent_kafka import KafkaException

        from pipeline.access.requests import ANSWER_BYTES, write
        from pipeline.access.roles import ANSWERS
        from pipeline.broker.client import BrokerError

        while True:
            try:
                self._keep_rights(now=True)
                answer = self._service.answer(user, record.raw, self._users)
                self._keep_rights(now=True)
                write(
                    ANSWERS + user,
                    answer.within(ANSWER_BYTES),
                    self._settings.bootstrap_servers,
                    **self._settings.client,
                )
                break
            except (BrokerError, KafkaException) as error:
                log.warning("user %s cannot be answered, trying again: %s", user, error)
                time.sleep(_AGAIN_SECONDS)
        with suppress(RuntimeError):  # we listen anew meanwhile: it comes again, and is done already
            requests.has_read(record)

    def _hold(self, user: str) -> None:
        """Somebody asks faster than can be answered: the rest waits at the broker."""
        from pipeline.access.roles import REQUESTS

        if self._requests is not None:
            self._requests.hold(REQUESTS + user, 0)

    def _go_on(self, user: str) -> None:
        from confluent_kafka import KafkaException

        from pipeline.access.roles import REQUESTS

        if self._requests is not None:
            with suppress(RuntimeError, KafkaException):  # we listen anew, where nothing is held
                self._requests.go_on(REQUESTS + user, 0)

    def _tell_owner(self, record: Alert) -> None:
        """Once for each reason: a user's channel misses alerts, and why."""
        import json

        from pipeline.channels.gaps import Gap

        if not record.raw:  # a gap that has been filled
            return
        gap = Gap(**json.loads(record.raw))
        owner, dot, _ = gap.channel.partition(".")
        if not dot or owner not in self._users or self._told.get(gap.channel) == gap.reason:
            return
        self._told[gap.channel] = gap.reason
        words = f"channel {gap.channel} misses alerts from offset {gap.low} of {gap.source} on: {gap.reason}"
        self._tell(owner, False, words, gap.traceback)

    def _tell(self, user: str, good: bool, words: str, traceback: str = "") -> None:
        """Tell a user what they have not asked."""
        from pipeline.access.requests import Answer, write
        from pipeline.access.roles import ANSWERS

        if user not in self._users:  # removed
            return
        answer = Answer(id="", done=good, text=words, traceback=traceback)
        write(ANSWERS + user, answer, self._settings.bootstrap_servers, **self._settings.client)

    def _keep_rights(self, now: bool = False) -> None:
        """Look once a second whether topics, users or channels have changed, and set the rights then."""
        from pipeline.access.users import enforce_rights, present, read_users, stand

        if not now and time.monotonic() - self._looked < _LOOK_SECONDS:
            return
        broker, kafka = self._settings.bootstrap_servers, self._settings.client
        with self._rights:
            self._looked = time.monotonic()
            notices = self._watch.pause_overrun(self._users)
            notices += [(user, False, words) for user, words in self._service.expire()]
            if (found := (stand(broker, **kafka), self._service.shared)) != self._seen:
                for change in enforce_rights(broker, **kafka):
                    log.info("%s", change)
                users = read_users(broker, **kafka)
                self._users = {name: users[name] for name in present(users)}
                notices += self._watch.pause_unfit(self._users) + self._watch.granted()
                self._seen = found
        for notice in notices:
            self._tell(*notice)
