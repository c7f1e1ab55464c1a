"""`zads serve`: gives each user the rights of their role, and answers what users ask about their channels."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

import typer

from commands.shared.options import Archive, Bootstrap, Config, people, settings_of

if TYPE_CHECKING:
    from commands.serve.service import Service
    from pipeline.access.roles import Role
    from pipeline.broker.listen import Alert
    from pipeline.channels.config import RunConfig

log = logging.getLogger(__name__)

_LOOK_SECONDS = 1.0
_AGAIN_SECONDS = 2.0
_GROUP = "zads-serve"


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

    settings = settings_of(config, bootstrap_servers=bootstrap)
    people.print(f"serving the users of {settings.bootstrap_servers}")
    desk = Desk(settings, Service(settings, archive))
    try:
        desk.run()
    except KeyboardInterrupt:
        people.print("stopped")


class Desk:
    """Rights as they change, and requests as they come, one after the other."""

    def __init__(self, settings: RunConfig, service: Service) -> None:
        self._settings, self._service = settings, service
        self._roles: dict[str, Role] = {}
        self._seen: object = None
        self._looked = 0.0
        self._told: dict[str, str] = {}  # channel -> why it is suspended, as its owner has been told

    def run(self) -> None:
        """Until somebody interrupts."""
        from confluent_kafka import KafkaException

        from pipeline.access.requests import ensure_request_topics
        from pipeline.access.users import lay_out, present, read_users
        from pipeline.broker.client import BrokerError

        broker, kafka = self._settings.bootstrap_servers, self._settings.client
        lay_out(broker, **kafka)
        ensure_request_topics(list(present(read_users(broker, **kafka))), broker, **kafka)
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
            for batch in requests.batches():
                self._keep_rights()
                for record in batch:
                    if record.topic == GAPS_TOPIC:
                        self._tell_owner(record)
                    else:
                        self._answer(record)
                    requests.has_read(record)

    def _answer(self, record: Alert) -> None:
        """Do it, give the rights that follow, and only then say so."""
        from pipeline.access.requests import write
        from pipeline.access.roles import ANSWERS, REQUESTS

        self._keep_rights(now=True)
        user = record.topic.removeprefix(REQUESTS)
        answer = self._service.answer(user, record.raw, self._roles)
        self._keep_rights(now=True)
        write(ANSWERS + user, answer, self._settings.bootstrap_servers, **self._settings.client)

    def _tell_owner(self, record: Alert) -> None:
        """Once for each reason: a user's channel misses alerts, and why."""
        import json

        from pipeline.access.requests import Answer, write
        from pipeline.access.roles import ANSWERS
        from pipeline.channels.gaps import Gap

        if not record.raw:  # a gap that has been filled
            return
        gap = Gap(**json.loads(record.raw))
        owner, dot, _ = gap.channel.partition(".")
        if not dot or owner not in self._roles or self._told.get(gap.channel) == gap.reason:
            return
        self._told[gap.channel] = gap.reason
        words = f"channel {gap.channel} misses alerts from offset {gap.low} of {gap.source} on: {gap.reason}"
        answer = Answer(id="", done=False, text=words, traceback=gap.traceback)
        write(ANSWERS + owner, answer, self._settings.bootstrap_servers, **self._settings.client)

    def _keep_rights(self, now: bool = False) -> None:
        """Look once a second whether topics, users or channels have changed, and set the rights then."""
        from commands.serve.service import pause_unfit
        from pipeline.access.users import enforce_rights, present, read_users, stand

        if not now and time.monotonic() - self._looked < _LOOK_SECONDS:
            return
        self._looked = time.monotonic()
        broker, kafka = self._settings.bootstrap_servers, self._settings.client
        if (found := stand(broker, **kafka)) == self._seen:
            return
        for change in enforce_rights(broker, **kafka):
            log.info("%s", change)
        self._roles = present(read_users(broker, **kafka))
        pause_unfit(self._settings, self._roles)
        self._seen = found
