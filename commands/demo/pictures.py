"""A picture of each kind of filter at work."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from commands.demo.kinds import Shown, values_told
from commands.demo.night import Night

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from filters.regions.skymap import SkyMap

_DPI = 90
_KEPT_OUT, _DELIVERED = "#c0392b", "#2c7fb8"


def draw(done: Sequence[Shown], night: Night, folder: Path, external: Path) -> list[Path]:
    """Draw a picture of each kind that has found something.

    Parameters
    ----------
    done
        What each kind did.
    night
        The night that was published.
    folder
        Where to; it is made if it is not there.
    external
        The folder of external information that the channels have read.
    """
    from schemas.pictures.figure import write_figure

    folder.mkdir(parents=True, exist_ok=True)
    pictures = []
    for one in done:
        if one.example is None or not one.found:
            continue
        if one.kind.rejects:
            figure = _exposure(one, night)
        elif (event := one.example.values.get("skymaps.event")) is not None:
            figure = _sky_map(one, night, _map_of(event, external))
        else:
            figure = _alert(one)
        path = folder / f"{one.kind.name.replace(' ', '_')}.png"
        pictures.append(write_figure(figure, path, _DPI))
    return pictures


def _alert(one: Shown) -> Figure:
    """An alert that was sought and found: light curve and stamps, and its values above."""
    from schemas.pictures.figure import show

    assert one.example is not None
    figure = show([one.example])
    told = ", ".join(values_told(one.example.values))
    figure.suptitle(f"{one.kind.name}, {one.kind.channel}: {told}", fontsize=10)
    return figure


def _exposure(one: Shown, night: Night) -> Figure:
    """The detector in the exposure with most members of trails: who was kept out, who was not."""
    from schemas.pictures.figure import blank_figure

    truth = night.public
    pid = truth[truth["candid"].isin(one.kind.sought)]["pid"].mode()[0]
    here = [alert for alert in night.ztf if alert.pid == pid]
    places = np.array([_place(alert.packet) for alert in here])
    kept_out = np.array([alert.candid not in one.candids for alert in here])
    figure = blank_figure(6.0, 6.2)
    axes = figure.add_subplot()
    for which, colour, words in (
        (~kept_out, _DELIVERED, "delivered"),
        (kept_out, _KEPT_OUT, "on a line with four others: kept out"),
    ):
        axes.plot(*places[which].T, "o", color=colour, markersize=5, label=f"{words} ({which.sum()})")
    axes.set(xlabel="column (pixels)", ylabel="row (pixels)", aspect="equal")
    axes.set_title(f"{one.kind.name}, {one.kind.channel}: exposure {pid}", fontsize=10)
    axes.legend(fontsize=8)
    return figure


def _map_of(event: str, external: Path) -> SkyMap:
    """The newest map of an event."""
    from filters.external import Store
    from filters.regions.skymap import read_fits

    store = Store(external)
    (about,) = (one for one in store.about("skymaps")["maps"] if one["event"] == event)
    return read_fits((store.folder("skymaps") / about["file"]).read_bytes(), event, about["number"])


def _sky_map(one: Shown, night: Night, of: SkyMap) -> Figure:
    """The 90 % area of the event's map, the alerts of the night there, and those that were delivered."""
    from schemas.pictures.figure import blank_figure

    ra, dec = _middles(of)
    inside = of.level <= 0.9
    truth = night.public
    ours = truth["candid"].isin(one.candids)
    figure = blank_figure(7.0, 4.8)
    axes = figure.add_subplot()
    drawn = axes.scatter(ra[inside], dec[inside], c=of.level[inside], s=9, cmap="YlOrRd_r", vmin=0, vmax=1)
    figure.colorbar(drawn, label="credible level")
    window = (*axes.get_xlim(), *axes.get_ylim())
    axes.plot(truth["ra"], truth["dec"], ".", color="#606060", markersize=3, label="public alerts")
    axes.plot(truth["ra"][ours], truth["dec"][ours], "*", color=_DELIVERED, markersize=14, label="delivered")
    axes.set(xlim=(window[1], window[0]), ylim=window[2:], xlabel="RA (degrees)", ylabel="Dec (degrees)")
    axes.set_title(f"{one.kind.name}, {one.kind.channel}: {of.event}, the 90 % area", fontsize=10)
    axes.legend(fontsize=8)
    return figure


def _middles(of: SkyMap) -> tuple[np.ndarray, np.ndarray]:
    """RA and Dec of the middle of each cell of a map, degrees."""
    from cdshealpix.nested import healpix_to_lonlat

    ra, dec = healpix_to_lonlat(((of.begins + of.ends) // 2).astype(np.uint64), 29)
    return ra.to_value("deg"), dec.to_value("deg")


def _place(packet: bytes) -> tuple[float, float]:
    from schemas.packets.packet import read_packet

    candidate: dict[str, Any] = read_packet(packet)[0]["candidate"]
    return candidate["xpos"], candidate["ypos"]
