"""What can go wrong with a filter in the sandbox, drawn as a tree:

FilterError
├── NoSandbox        this machine cannot confine strangers' code: it is not run
├── Raised           the code raised; `traceback` is of the code alone
├── Ended            its process was ended: too long, too much memory, or an answer that is none
├── OnTrial          nobody waits for it: one of its owner's had to be ended, or took far longer than usual
├── TooSlow          it has used more processor time than its alerts give it
└── Changed          it gave two answers to one batch

After those with `hopeless` a batch is not halved.
"""

from __future__ import annotations

from filters.errors import FilterError


class NoSandbox(FilterError):
    """This machine cannot confine strangers' code."""

    hopeless = True


class Raised(FilterError):
    """A filter raised in the sandbox.

    Parameters
    ----------
    kind
        Name of the exception's class.
    words
        What it says.
    traceback
        Of the user's code, as text.
    """

    def __init__(self, kind: str, words: str, traceback: str) -> None:
        super().__init__(f"{kind}: {words}" if words else kind)
        self.kind, self.raised, self.traceback = kind, self.message, traceback


class Ended(FilterError):
    """The process of a filter was ended, or ended itself. strike: how often now, of late, in this process."""

    strike, hopeless = 1, True
    traceback = ""


class OnTrial(FilterError):
    """A filter is not waited for: it judges the batch beside the stream, to show that it comes to an end."""

    traceback, hopeless = "", True


class TooSlow(FilterError):
    """A filter uses more processor time than the alerts that it judges give it."""

    traceback, hopeless = "", True


class Changed(FilterError):
    """A filter gave another answer to the same alerts."""

    traceback, hopeless = "", True
