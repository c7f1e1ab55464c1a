"""Where on the sky the pixels of a stamp are.

Rubin's stamps say it in their FITS header (CRPIX, CRVAL, PC), but without CTYPE: they are to be read as
gnomonic (TAN) in degrees. Read as linear a corner is a third of an arcsecond off. ZTF's stamps say nothing:
they are cut from images of a known orientation. Those of the simulated sky have a header that says it (CD).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from schemas.errors import PacketError
from schemas.packets.packet import stamp_bytes
from schemas.surveys.registry import survey_of_packet

_CARD = 80


@dataclass(frozen=True)
class StampSky:
    """How a stamp lies on the sky.

    matrix: (2, 2) arcsec, ((east a column, east a row), (north a column, north a row)). column, row: of the
    reference position, pixels from 0, None for the middle of the stamp. ra, dec: of that, degrees.
    """

    matrix: np.ndarray
    column: float | None = None
    row: float | None = None
    ra: float | None = None
    dec: float | None = None

    @property
    def scale(self) -> float:
        """arcsec a pixel."""
        return float(np.sqrt(abs(np.linalg.det(self.matrix))))

    @property
    def is_turned(self) -> bool:
        """Whether rows and columns do not run along right ascension and declination."""
        return not np.allclose(self.matrix, np.diag(np.diag(self.matrix)), atol=1e-3 * self.scale)

    def position(self, column: float, row: float) -> tuple[float, float]:
        """Right ascension and declination (degrees) of a pixel, gnomonic. Raises ValueError without any.

        Source: Calabretta & Greisen 2002, A&A 395, 1077, sections 2 and 5.1.3.
        """
        if self.ra is None or self.dec is None or self.column is None or self.row is None:
            raise ValueError("this stamp does not say where it is")
        east, north = self.matrix @ (column - self.column, row - self.row) / 3600
        xi, eta = np.radians(east), np.radians(north)
        ra_0, dec_0 = np.radians(self.ra), np.radians(self.dec)
        along = np.cos(dec_0) - eta * np.sin(dec_0)
        ra = ra_0 + np.arctan2(xi, along)
        dec = np.arctan2(np.sin(dec_0) + eta * np.cos(dec_0), np.hypot(xi, along))
        return float(np.degrees(ra) % 360), float(np.degrees(dec))


def stamp_sky(packet: Mapping[str, Any], which: str) -> StampSky | None:
    """How a stamp of a packet lies on the sky; None where this is unknown. which: such as "Science"."""
    try:
        data = stamp_bytes(packet, which)
        if data is not None:
            return sky_of_header(data)
    except (PacketError, ValueError, KeyError):  # a header that does not say: the survey's room may
        pass
    survey = survey_of_packet(packet)
    return (
        None if survey is None or survey.stamps.matrix is None else StampSky(np.array(survey.stamps.matrix))
    )


def sky_of_header(data: bytes) -> StampSky:
    """How a stamp lies on the sky by the first header of its FITS file, which is not gzipped.

    Raises KeyError, ValueError when it does not say.
    """
    end = data.find(b"END".ljust(_CARD))
    cards = {
        data[at : at + 8].strip().decode("ascii", "replace"): data[at + 10 : at + _CARD].split(b"/")[0]
        for at in range(0, max(end, 0), _CARD)
    }

    def number(name: str, otherwise: float | None = None) -> float:
        return float(cards[name]) if name in cards or otherwise is None else otherwise

    if "CD1_1" in cards:
        matrix = np.array([[number(f"CD{i}_{j}", 0.0) for j in (1, 2)] for i in (1, 2)])
    else:
        pc = [[number(f"PC{i}_{j}", float(i == j)) for j in (1, 2)] for i in (1, 2)]
        matrix = np.array(pc) * np.array([number("CDELT1"), number("CDELT2")])[:, None]
    return StampSky(
        matrix * 3600,
        number("CRPIX1") - 1,
        number("CRPIX2") - 1,
        number("CRVAL1"),
        number("CRVAL2"),
    )
