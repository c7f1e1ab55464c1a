"""The passbands of the surveys, from passbands.toml, which says where each is from."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

TABLE = Path(__file__).with_name("passbands.toml")


@dataclass(frozen=True)
class Passband:
    """Relative transmission of photons, (n,); `first` wavelength and `step` in Å."""

    first: float
    step: float
    transmission: np.ndarray

    @property
    def wavelength(self) -> np.ndarray:
        """Å, (n,)."""
        return self.first + self.step * np.arange(len(self.transmission))

    @property
    def mean(self) -> float:
        """Mean wavelength of the transmission, Å."""
        return float(np.average(self.wavelength, weights=self.transmission))


def passbands(survey: str) -> dict[str, Passband]:
    """Band -> passband of a survey, from blue to red."""
    table = tomllib.loads(TABLE.read_text())[survey]
    return {
        band: Passband(float(one["first"]), float(one["step"]), np.array(one["transmission"], float))
        for band, one in table.items()
    }
