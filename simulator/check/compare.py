"""The simulated sky beside real packets: the same quantities of both in one picture, and where they differ.

Real packets that another broker rewrote (their record is named topLevelRecord) are left out: their times and
catalogue columns were altered.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.table import Table

from schemas.errors import PacketError
from schemas.packets.files import PacketFiles
from schemas.packets.packet import packet_schema, packet_survey, read_packet, stamp
from schemas.surveys.registry import SURVEYS

if TYPE_CHECKING:
    from simulator.packets.cell import SimulatedAlert

_REWRITTEN = "topLevelRecord"
_SIMULATED = 2000  # alerts that are looked at
_VISIBLE = 0.25  # Kolmogorov-Smirnov distance that is visible in the picture
_COLUMNS = (
    *(
        "magpsf",
        "sigmapsf",
        "diffmaglim",
        "rb",
        "drb",
        "fwhm",
        "elong",
        "chipsf",
        "magdiff",
        "sumrat",
        "nneg",
    ),
    *("distnr", "magnr", "distpsnr1", "sgscore1", "nmtchps", "neargaia", "ndethist", "ncovhist"),
)
_PICTURES = ("Science", "Template", "Difference")
_LOGARITHMIC = ("chipsf", "ndethist", "ncovhist", "packet kB")

Samples = dict[str, np.ndarray]
Packet = Mapping[str, Any]


@dataclass(frozen=True)
class Difference:
    """One quantity: medians, central 80 per cent, and the Kolmogorov-Smirnov distance with what chance
    allows at five per cent."""

    name: str
    real: tuple[float, float, float]
    simulated: tuple[float, float, float]
    distance: float
    by_chance: float

    @property
    def visible(self) -> bool:
        """Whether it is visible: larger than chance, and more than a quarter of the alerts differ."""
        return self.distance > max(_VISIBLE, self.by_chance)

    @property
    def words(self) -> str:
        """What differs, in words; empty when nothing visible does."""
        if not self.visible:
            return ""
        width_real, width_ours = (v[2] - v[0] for v in (self.real, self.simulated))
        shifted = abs(self.simulated[1] - self.real[1]) > 0.25 * max(width_real, 1e-9)
        where = ("higher" if self.simulated[1] > self.real[1] else "lower") if shifted else ""
        spread = (
            "wider" if width_ours > 1.3 * width_real else "narrower" if width_real > 1.3 * width_ours else ""
        )
        return " and ".join(word for word in (where, spread) if word) or "another shape"


def compare_with(run: Iterable[SimulatedAlert], real: Path, picture: Path) -> list[Difference]:
    """Draw distributions of simulated alerts beside those of real packets, and list the differences.

    Parameters
    ----------
    run
        Simulated alerts; the first ones are compared.
    real
        Real packets: a file or a folder.
    picture
        File of the picture to write.

    Raises
    ------
    NoSuchPackets
        When there are no packets at `real`.
    ValueError
        When none of them is an original ZTF packet.
    """
    theirs = _samples(_real(real))
    if not len(theirs["magpsf"]):
        raise ValueError(f"cannot compare: no packet at {real} is an original one of ZTF")
    ours = _samples(packet for alert in islice(run, _SIMULATED) for packet in _read(alert.packet))
    _draw(ours, theirs, picture)
    return [
        _difference(name, ours[name], theirs[name])
        for name in theirs
        if len(ours[name]) and len(theirs[name])
    ]


def differences_table(differences: Sequence[Difference]) -> Table:
    """For people: each quantity with its median and central 80 per cent, and what differs."""
    table = Table("quantity", "real: median (10%, 90%)", "simulated", "distance", "differs visibly")
    for d in differences:
        shown = [f"{v[1]:.4g} ({v[0]:.4g}, {v[2]:.4g})" for v in (d.real, d.simulated)]
        table.add_row(d.name, *shown, f"{d.distance:.2f}", d.words)
    return table


def _real(folder: Path) -> Iterator[tuple[Packet, int]]:
    for file in PacketFiles([folder]):
        try:
            yield from _read(file.raw)
        except PacketError:
            continue  # damaged files are among the real ones on purpose


def _read(raw: bytes) -> Iterator[tuple[Packet, int]]:
    if packet_survey(raw) == "ztf" and packet_schema(raw).get("name") != _REWRITTEN:
        for packet in read_packet(raw):
            yield packet, len(raw)


def _samples(packets: Iterable[tuple[Packet, int]]) -> Samples:
    """Quantity -> values, the missing ones left out."""
    found: dict[str, list[float]] = {}
    for packet, size in packets:
        for name, value in _quantities(packet, size).items():
            found.setdefault(name, []).append(np.nan if value is None else float(value))
    samples = {name: np.array(values) for name, values in found.items()}
    return {name: values[np.isfinite(values)] for name, values in samples.items()} or {"magpsf": np.array([])}


def _quantities(packet: Packet, size: int) -> Mapping[str, Any]:
    candidate = packet["candidate"]
    found = {name: _present(name, candidate.get(name)) for name in _COLUMNS}
    past = packet.get("prv_candidates") or []
    found |= {"history rows": len(past), "history detections": sum(r["magpsf"] is not None for r in past)}
    found["forced rows"] = len(packet["fp_hists"] or []) if "fp_hists" in packet else None
    found["packet kB"] = size / 1000
    for name in _PICTURES:
        if not packet.get(f"cutout{name}"):
            continue
        image = stamp(packet, name)
        middle = float(np.nanmedian(image))
        noise = max(1.4826 * float(np.nanmedian(np.abs(image - middle))), 1e-3)
        core = np.nanmean(image[30:33, 30:33].astype(float)) - middle
        found |= {f"{name}: noise (DN)": noise, f"{name}: centre / noise": np.arcsinh(core / noise)}
    return found


def _present(name: str, value: Any) -> Any:
    return None if value is None or value == SURVEYS["ztf"].sentinel(name) else value


def _difference(name: str, ours: np.ndarray, theirs: np.ndarray) -> Difference:
    both = np.sort(np.concatenate([ours, theirs]))
    steps = [np.searchsorted(np.sort(v), both, side="right") / len(v) for v in (ours, theirs)]
    low, middle, high = ([float(np.quantile(v, q)) for v in (theirs, ours)] for q in (0.1, 0.5, 0.9))
    chance = 1.36 * np.sqrt(1 / len(ours) + 1 / len(theirs))  # Smirnov, five per cent
    return Difference(
        name,
        (low[0], middle[0], high[0]),
        (low[1], middle[1], high[1]),
        float(np.abs(steps[0] - steps[1]).max()),
        float(chance),
    )


def _draw(ours: Samples, theirs: Samples, picture: Path) -> None:
    from matplotlib.figure import Figure

    names = [name for name in theirs if len(theirs[name]) and len(ours.get(name, ()))]
    rows = -(-len(names) // 6)
    figure = Figure(figsize=(18, 2.5 * rows), layout="constrained")
    for place, name in enumerate(names, 1):
        axes = figure.add_subplot(rows, 6, place)
        a, b = theirs[name], ours[name]
        if name in _LOGARITHMIC:
            a, b = np.log10(np.maximum(a, 0.1)), np.log10(np.maximum(b, 0.1))
        low, high = np.quantile(np.concatenate([a, b]), [0.005, 0.995])
        bins = list(np.linspace(low, max(high, low + 1e-6), 25))
        axes.hist(np.clip(a, low, high), bins, density=True, alpha=0.45, color="0.45", label="real")
        axes.hist(np.clip(b, low, high), bins, density=True, histtype="step", lw=1.5, label="simulated")
        differs = _difference(name, ours[name], theirs[name]).words
        axes.set_title(("log " if name in _LOGARITHMIC else "") + name, fontsize=9)
        axes.set_yticks([])
        if differs:
            axes.text(
                0.97, 0.93, differs, transform=axes.transAxes, ha="right", va="top", fontsize=8, color="C3"
            )
    figure.axes[0].legend(frameon=False, fontsize=8)
    figure.savefig(picture, dpi=90)
