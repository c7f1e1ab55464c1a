"""Supernovae of type Ia: their light curves through each survey's passbands, and how well one fits an
alert."""

from filters.supernovae.epochs import Measured, measured_by_rubin, measured_by_ztf
from filters.supernovae.fit import FITTED, FREE, fits, gives
from filters.supernovae.templates import Templates, templates

__all__ = [
    "FITTED",
    "FREE",
    "Measured",
    "Templates",
    "fits",
    "gives",
    "measured_by_rubin",
    "measured_by_ztf",
    "templates",
]
