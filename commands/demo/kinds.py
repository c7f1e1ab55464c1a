"""The kinds of filters that the demo shows at work: what each reads, and what it is to find.

Each is told the truth apart from the filter: who was simulated as what, and where.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.table import Table
from rich.text import Text

from commands.demo.night import Night

if TYPE_CHECKING:
    import pandas as pd

    from pipeline.broker.listen import Alert
    from pipeline.channels.config import ChannelConfig

TRAIL = 5
"""So many alerts on a line are a trail, for `no_trail`."""
_RADIUS, _NEAR = 3.0, 1.5  # arcsec: of the catalogue, and of its channel
_TARGETS, _TARGET_RADIUS = 12, 1.0
_AFTER_MERGER = (
    "skymaps.level <= 0.9 and jd - jdstarthist < skymaps.days and ndethist > 1 and positive"
    " and not (sgscore1 > 0.5 and distpsnr1 < 1.5) and not (ssdistnr < 5)"
)
_SUPERNOVAE = ("SN Ia", "SN II", "SN Ibc")


@dataclass(frozen=True)
class Kind:
    """A kind of filter at work in one channel.

    name: the kind. channel, config: its channel. seeks: what that is, in words. sought: candids of the public
    alerts that it seeks. rejects: it is to deliver all others.
    """

    name: str
    channel: str
    config: ChannelConfig
    seeks: str
    sought: frozenset[int] = field(repr=False)
    rejects: bool = False


@dataclass(frozen=True)
class Shown:
    """What a kind did.

    candids: delivered. found: how many of those sought. besides: others that it took for such. example: an
    alert that it was right to deliver.
    """

    kind: Kind
    candids: frozenset[int] = field(repr=False)
    found: int
    besides: int
    example: Alert | None

    @property
    def delivered(self) -> int:
        """How many alerts."""
        return len(self.candids)

    @property
    def failed(self) -> bool:
        """Whether it has found nothing although there was something."""
        return bool(self.kind.sought) and not self.found


def kinds_of(night: Night, external: Path) -> list[Kind]:
    """The kinds, with what they read beside the alerts written into a folder.

    Parameters
    ----------
    night
        The simulated night.
    external
        The folder of external information.
    """
    from pipeline.channels.config import ChannelConfig

    truth = night.public
    made = [
        Kind(
            "exposure filter",
            "no_trail",
            ChannelConfig(filter="filters.exposures.trails:no_trail"),
            "what lies on a trail, kept out",
            _trails(truth),
            rejects=True,
        ),
        _crossmatch(night, external),
        _watchlist(truth, external),
        _sky_maps(truth, external),
        Kind(
            "stamp score",
            "stamp_point",
            ChannelConfig(),
            "real sources",
            _candids(truth[truth["class"] != "bogus"]),
        ),
        Kind(
            "model",
            "by_class",
            ChannelConfig(filter="filters.models.light_curves:light_curve_class"),
            "supernovae",
            _candids(truth[truth["class"].isin(_SUPERNOVAE)]),
        ),
    ]
    return [kind for kind in made if kind is not None]


def _candids(rows: pd.DataFrame) -> frozenset[int]:
    return frozenset(rows["candid"].tolist())


def _trails(truth: pd.DataFrame) -> frozenset[int]:
    members = truth[truth["artefact"].isin(["streak", "bleed trail"])]
    size = members.groupby(["pid", "designation"])["candid"].transform("size")
    return _candids(members[size >= TRAIL])


def _crossmatch(night: Night, external: Path) -> Kind | None:
    """Ultraviolet sources: a GALEX-like catalogue of the simulated sky."""
    from commands.external.catalogues import add_catalogue
    from pipeline.channels.config import ChannelConfig

    sources = night.sources.loc[night.sources["nuv"].notna(), ["ra", "dec", "nuv", "fuv"]]
    if sources.empty:
        return None
    units = {"nuv": "mag", "fuv": "mag"}
    add_catalogue(sources, "galex", _RADIUS, units=units, root=external)
    return Kind(
        "crossmatch",
        "ultraviolet",
        ChannelConfig(where=f"galex.sep < {_NEAR}", values=["galex.sep", "galex.nuv"]),
        "sources in the ultraviolet",
        _candids(night.public[_beside(night.public, sources)]),
    )


def _beside(truth: pd.DataFrame, sources: pd.DataFrame) -> np.ndarray:
    """Whose true place is that of a source, (n,) bool; by astropy, not by the crossmatch that is shown."""
    import astropy.units as u
    from astropy.coordinates import SkyCoord

    known = truth["ra"].notna().to_numpy()
    places = SkyCoord(truth["ra"][known], truth["dec"][known], unit="deg")
    _, apart, _ = places.match_to_catalog_sky(SkyCoord(sources["ra"], sources["dec"], unit="deg"))
    near = np.zeros(len(truth), bool)
    near[known] = apart < _NEAR * u.arcsec
    return near


def _watchlist(truth: pd.DataFrame, external: Path) -> Kind | None:
    """A dozen objects by name, each with a radius of its own."""
    from commands.external.catalogues import add_catalogue
    from pipeline.channels.config import ChannelConfig

    stars = truth[truth["class"].isin(["RR Lyrae", "AGN", "dwarf nova"])]
    targets = stars.drop_duplicates("objectId")[:_TARGETS].reset_index(drop=True)
    if targets.empty:
        return None
    listed = targets[["ra", "dec"]].assign(
        name=[f"{kind} {number}" for number, kind in enumerate(targets["class"], start=1)],
        radius=_TARGET_RADIUS,
    )
    add_catalogue(listed, "targets", _TARGET_RADIUS, radius_column="radius", root=external, listed=True)
    return Kind(
        "watchlist",
        "my_targets",
        ChannelConfig(where="targets.match", values=["targets.name", "targets.sep"]),
        f"{len(targets)} named objects",
        _candids(truth[truth["objectId"].isin(targets["objectId"])]),
    )


def _sky_maps(truth: pd.DataFrame, external: Path) -> Kind | None:
    """Mergers with their maps, updated once; and an event that was retracted."""
    from filters.external.add import add_notices
    from pipeline.channels.config import ChannelConfig
    from simulator.sky.merger import merger_of
    from simulator.sky.messages import messages_of

    kilonovae = truth[truth["class"] == "kilonova"]
    if kilonovae.empty:
        return None
    for number, row in enumerate(kilonovae.drop_duplicates("objectId").to_dict("records")):
        told = messages_of(merger_of(row, number), number)
        notices = [text for name, text in sorted(told.items()) if name.endswith(".json") and name[0] == "S"]
        add_notices("skymaps", notices, external)
    return Kind(
        "sky map",
        "after_merger",
        ChannelConfig(
            where=_AFTER_MERGER,
            values=["skymaps.event", "skymaps.level", "skymaps.days", "skymaps.distance"],
        ),
        "kilonovae of mergers",
        _candids(kilonovae),
    )


def shown(kind: Kind, alerts: Collection[Alert], night: Night) -> Shown:
    """What a kind did.

    Parameters
    ----------
    kind
        The kind.
    alerts
        What its channel delivered.
    night
        The night that was published.
    """
    delivered = frozenset(alert.candid for alert in alerts if alert.candid is not None)
    taken = set(night.public["candid"]) - delivered if kind.rejects else delivered
    right = [alert for alert in alerts if (alert.candid in kind.sought) != kind.rejects]
    found, besides = len(taken & kind.sought), len(taken - kind.sought)
    return Shown(kind, delivered, found, besides, right[0] if right else None)


def kinds_table(done: Sequence[Shown]) -> Table:
    """For people: a row a kind."""
    table = Table(box=None, pad_edge=False)
    for title in ("kind, channel", "it seeks", "delivered", "found", "besides", "values of one alert"):
        right = title in ("delivered", "found", "besides")
        table.add_column(title, justify="right" if right else "left", overflow="fold")
    for one in done:
        table.add_row(
            f"{one.kind.name}\n{one.kind.channel}",
            one.kind.seeks,
            f"{one.delivered:,}",
            Text(f"{one.found:,} of {len(one.kind.sought):,}", style="red" if one.failed else "green"),
            f"{one.besides:,}",
            "\n".join(values_told(one.example.values)) if one.example else "",
        )
    return table


def values_told(values: Mapping[str, Any]) -> list[str]:
    """Values as people read them: each its name and its number."""
    return [
        f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in values.items()
    ]
