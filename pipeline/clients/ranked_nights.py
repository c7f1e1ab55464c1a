"""The nights that ranked channels still lack, and a thread that fills them as soon as they are closed.

Nothing is remembered here: the ledger says which nights there are and what is missing, zads.ranked says which
are done. So it does not matter who fills a night, how often one is killed, or how many do it at once.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from confluent_kafka import KafkaException

from pipeline.channels.config import RunConfig
from pipeline.clients.ledger import entries
from pipeline.clients.ranked import (
    Filled,
    NightNotClosed,
    RankingError,
    closing_ledger,
    fill,
    filled,
    nights_over,
    not_closed,
)
from schemas.errors import ZadsError

log = logging.getLogger(__name__)

LAST_NIGHTS = 7
"""Of the nights of the ledger that are over only the last so many are filled without being told to."""
LATE = timedelta(hours=1)
"""A night should be filled so long after it was over."""
_OVER = timedelta(hours=36)  # from a night's date to where the date of UTC - 12 h is later
_LOOK_SECONDS = 60.0
_AGAIN_SECONDS = 3600.0
_END_SECONDS = 30.0


@dataclass(frozen=True)
class Lacking:
    """A ranked channel that has not got a night that is over. why: the night is not closed; () when it is."""

    channel: str
    night: str
    why: tuple[str, ...] = ()

    @property
    def late(self) -> bool:
        """Whether it should have been filled by now."""
        return datetime.now(UTC) > datetime.fromisoformat(self.night).replace(tzinfo=UTC) + _OVER + LATE

    def __str__(self) -> str:
        """A sentence."""
        words = f"ranked channel {self.channel} has not got the night {self.night}"
        ranks = f"zads channel rank {self.channel} --night {self.night}"
        if self.why:
            return (
                f"{words}, which is not closed: {'; '.join(self.why)} (`{ranks} --force` takes what is there)"
            )
        return f"{words}, which is closed: `zads archive follow` or `{ranks}` fills it"


def lacking(config: RunConfig) -> list[Lacking]:
    """What the ranked channels of a configuration lack, of the last nights, the earliest first.

    A night counts for a channel when the ledger says that what it ranks has received records of that night.

    Parameters
    ----------
    config
        With the ranked channels, the group whose ledger counts, and the broker.

    Raises
    ------
    BrokerError
        When the broker does not answer.
    """
    if not config.ranked:
        return []
    found, done, lacks = entries(config), filled(config), []
    for night in nights_over(found)[-LAST_NIGHTS:]:
        names = [name for name in sorted(config.ranked) if (name, night) not in done]
        told = closing_ledger(config, night, found) if names else None
        for name in names:
            of = config.ranked[name].of
            if told is not None and of in told.channels:
                lacks.append(Lacking(name, night, tuple(not_closed(of, told))))
    return lacks


class RankedNights:
    """Fills the ranked channels of a configuration, now and as nights are closed.

    Parameters
    ----------
    config
        With the ranked channels and the broker.
    tell
        Called with each night that was filled.
    every
        Seconds between two looks.
    """

    def __init__(
        self,
        config: RunConfig,
        tell: Callable[[Filled], None] = lambda _: None,
        every: float = _LOOK_SECONDS,
    ) -> None:
        self._config, self._tell, self._every = config, tell, every
        self._stop = threading.Event()
        self._noted: dict[tuple[str, str, str], float] = {}
        self._thread = threading.Thread(target=self._run, name="ranked channels", daemon=True)

    def __enter__(self) -> RankedNights:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(_END_SECONDS)  # one that is cut off delivers nothing, and the next one does it

    def _run(self) -> None:
        while not self._stop.is_set():
            self.look()
            self._stop.wait(self._every)

    def look(self) -> None:
        """Fill what is closed; say what is not, and what fails, at once and then once an hour."""
        try:
            for one in lacking(self._config):
                if self._stop.is_set():
                    return
                if not one.why:
                    self._fill(one)
                elif self._unheard("waiting", one):
                    log.warning("%s", one)
        except (ZadsError, KafkaException) as error:  # the next look tries again
            if self._unheard("broker"):
                log.warning("ranked channels cannot be filled now, trying again: %s", error)

    def _fill(self, one: Lacking) -> None:
        if not self._unheard("failed", one, note=False):
            return
        try:
            self._tell(fill(self._config, one.channel, one.night))
        except NightNotClosed as error:  # something came meanwhile
            log.warning("ranked channel %s: %s", one.channel, error)
        except RankingError as error:
            self._unheard("failed", one)
            log.error("ranked channel %s, night %s, again in an hour: %s", one.channel, one.night, error)

    def _unheard(self, what: str, one: Lacking | None = None, note: bool = True) -> bool:
        """Whether this was not noted within the hour; notes it."""
        key, now = (what, one.channel if one else "", one.night if one else ""), time.monotonic()
        unheard = now - self._noted.get(key, -_AGAIN_SECONDS) >= _AGAIN_SECONDS
        if unheard and note:
            self._noted[key] = now
        return unheard
