"""The registry as `zads serve` reads and writes it: one change after the other."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipeline.channels.config import RunConfig
    from pipeline.channels.definition import Definition
    from pipeline.channels.registry import Registry

_PAUSES = (0.1, 0.3, 1.0)
"""Seconds, where an operator writes to the registry at the same moment."""


class Writer:
    """Reads and writes the registry for several threads: whoever writes fences whoever did before."""

    def __init__(self, settings: RunConfig) -> None:
        self._settings, self._writing = settings, threading.Lock()

    def read(self) -> Registry:
        """The registry as it is now. Raises BrokerError."""
        from commands.channel.show import registry_of

        return registry_of(self._settings)

    def save(self, new: Definition, why: str, who: str) -> Definition:
        """Write the next revision of a channel: once more where an operator writes at the same moment.

        Parameters
        ----------
        new
            With the revision that it was made from.
        why
            The reason.
        who
            Who makes the change.

        Raises
        ------
        EditConflict
            When that is no longer the newest revision.
        BrokerError
            When the registry cannot be written.
        """
        from commands.channel.edit import save
        from pipeline.channels.registry import Crossed

        with self._writing:
            for pause in _PAUSES:
                try:
                    return save(self._settings, [new], why, who=who)[0]
                except Crossed:
                    time.sleep(pause)
            return save(self._settings, [new], why, who=who)[0]
