"""Filters that misbehave, as a user might write them, until a switch file is there: then they are good."""

import os
import time
from pathlib import Path

import numpy as np

from filters import alert_filter

MENDED = Path(os.environ.get("ZADS_TEST_MENDED", "/nonexistent/mended"))


def bright(alerts):
    """What each of them would find if it were well."""
    return {"bright": alerts["magpsf"] < 19}


@alert_filter(survey="ztf", reads=["magpsf"])
def raises(alerts):
    """Raises on every alert."""
    if not MENDED.exists():
        raise RuntimeError("a mistake of mine")
    return bright(alerts)


@alert_filter(survey="ztf", reads=["magpsf"])
def raises_on_some(alerts):
    """Raises when a batch holds one particular kind of alert."""
    if not MENDED.exists() and (alerts["candid"] % 97 == 0).any():
        raise ZeroDivisionError("this alert is special")
    return bright(alerts)


@alert_filter(survey="ztf", reads=["magpsf"])
def loops(alerts):
    """Never comes back."""
    while not MENDED.exists():
        time.sleep(0.01)
    return bright(alerts)


@alert_filter(survey="ztf", reads=["magpsf"])
def hungry(alerts):
    """Takes all the memory there is."""
    eaten = []
    while not MENDED.exists():
        eaten.append(np.ones(10_000_000))
    return bright(alerts)


_HOARD = []


@alert_filter(survey="ztf", reads=["magpsf"])
def hoards(alerts):
    """Keeps some more memory with each call; no single call takes much."""
    _HOARD.append(np.ones(2_000_000))
    return bright(alerts)


@alert_filter(survey="ztf", reads=["magpsf"])
def quits(alerts):
    """Ends the whole process on the spot."""
    if not MENDED.exists():
        os._exit(7)
    return bright(alerts)
