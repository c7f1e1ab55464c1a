"""docs/gallery.md: every filter, what it asks, what it leaves of a simulated night, one alert it found."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from filters import registered
from filters.external.externals import stored_columns, to_frame
from filters.scoring import SEEKS
from schemas.packets.packet import read_packet
from schemas.packets.reader import PacketReader
from schemas.surveys.registry import SURVEYS, survey_named
from simulator import SimulatedAlert, simulate, simulate_rubin, truth_table

if TYPE_CHECKING:
    from filters import Filter

ALERTS, NIGHTS, SEED = {"ztf": 1500, "lsst": 600}, 3, 7
_HEAD = """# Gallery of filters

Made by `zads filters --gallery docs/gallery.md`, from the code and the simulated sky (seed {seed}): {skies}.
So the numbers say what a filter does to a sky whose truth is known, not how good it is on the real one.
`zads filters NAME` tells all about one filter, `zads score` measures one, and
[expressions](expressions.md) are filters in a line.

{list}
"""
_PICTURE_DPI, _LOOKED_AT = 55, 20


@dataclass(frozen=True)
class Sky:
    """The simulated alerts of one survey. frame: with the columns of its filters; classes: (n,) the truth."""

    survey: str
    alerts: list[SimulatedAlert]
    frame: pd.DataFrame
    classes: pd.Series
    _passing: dict[str, np.ndarray] = field(default_factory=dict, repr=False)

    def passing(self, f: Filter) -> np.ndarray:
        """Who passes a filter: (n,) bool, asked once."""
        if f.name not in self._passing:
            self._passing[f.name] = f.passes(self.frame).to_numpy()
        return self._passing[f.name]

    @classmethod
    def of(cls, survey: str) -> Sky:
        """Simulate it."""
        number = ALERTS[survey]
        made = simulate(number, SEED, nights=NIGHTS) if survey == "ztf" else simulate_rubin(number, SEED)
        alerts = list(made)
        reads = list(dict.fromkeys(name for f in registered(survey).values() for name in f.require_reads()))
        table = PacketReader(stored_columns(reads, survey), survey).read([one.packet for one in alerts]).table
        return cls(survey, alerts, to_frame(table, reads, survey), truth_table(alerts).to_pandas()["class"])


def write_gallery(page: Path) -> None:
    """Write the page, and the pictures into a folder of its name beside it.

    Parameters
    ----------
    page
        Such as docs/gallery.md.
    """
    pictures = page.with_suffix("")
    pictures.mkdir(parents=True, exist_ok=True)
    skies = [Sky.of(survey) for survey in ALERTS]
    page.write_text(page_of(skies))
    for sky, f in _filters(skies):
        if (example := example_of(f, sky)) is not None:
            _draw(example, pictures / f"{f.name}.png")


def page_of(skies: Iterable[Sky]) -> str:
    """The text of the page."""
    skies = list(skies)
    links = [f"- [{f.name}](#{f.name}) ({_survey(sky)}): {_plain(f.title)}" for sky, f in _filters(skies)]
    told = ", ".join(f"{len(sky.alerts):,} alerts of {_survey(sky)}" for sky in skies)
    head = _HEAD.format(seed=SEED, skies=told, list="\n".join(links))
    return "\n".join([head, *(_section(f, sky) for sky, f in _filters(skies))])


def example_of(f: Filter, sky: Sky) -> SimulatedAlert | None:
    """The alert that is shown: of some that pass and are of a sought class, the one with most history."""
    passing = sky.passing(f)
    sought = sky.classes.isin(SEEKS.get(f.name, ())).to_numpy()
    chosen = (passing & sought).nonzero()[0]
    if not len(chosen):
        chosen = passing.nonzero()[0]
    found = [sky.alerts[row] for row in chosen[:_LOOKED_AT].tolist()]
    return max(found, key=lambda one: (_epochs(one, sky.survey), -one.candid), default=None)


def _filters(skies: Iterable[Sky]) -> Iterator[tuple[Sky, Filter]]:
    for sky in skies:
        for f in registered(sky.survey).values():
            yield sky, f


def _epochs(alert: SimulatedAlert, survey: str) -> int:
    packet = read_packet(alert.packet)[0]
    return sum(len(packet.get(name) or ()) for name in survey_named(survey).histories)


def _section(f: Filter, sky: Sky) -> str:
    """What the page says of one filter."""
    return "\n".join(
        [
            f"## {f.name}",
            "",
            f"*{_survey(sky)}.* {_told(f.doc)}",
            "",
            *_thresholds(f),
            *_funnel(f, sky),
            _found(f, sky),
            "",
            *_picture(f, sky),
        ]
    )


def _thresholds(f: Filter) -> list[str]:
    if not f.parameters:
        return []
    each = [f"`{name}` = {p.default} {p.unit}".rstrip() for name, p in f.parameters.items()]
    return [f"Thresholds: {', '.join(each)}.", ""]


def _funnel(f: Filter, sky: Sky) -> list[str]:
    rows = f.funnel(sky.frame)
    lines = [f"| {_plain(str(row.cut))} | {row.alerts:,} | {row.objects:,} |" for row in rows.itertuples()]
    return ["| cut | alerts left | objects left |", "|---|---:|---:|", *lines, ""]


def _found(f: Filter, sky: Sky) -> str:
    """Which classes are among those that pass, the commonest first."""
    passing = sky.classes[sky.passing(f)].value_counts()
    if passing.empty:
        return "It finds nothing in this sky."
    there = {str(kind): int(count) for kind, count in sky.classes.value_counts().items()}
    each = [(str(kind), int(count)) for kind, count in passing.items()]
    counted = sorted(each, key=lambda one: (-one[1], one[0]))
    return f"It finds: {', '.join(f'{count} of {there[kind]} {kind}' for kind, count in counted)}."


def _picture(f: Filter, sky: Sky) -> list[str]:
    example = example_of(f, sky)
    if example is None:
        return []
    kind = example.truth["class"]
    picture = f"![{example.objectId}, {kind}](gallery/{f.name}.png)"
    return [picture, "", f"One of them: a simulated {kind}.", ""]


def _draw(alert: SimulatedAlert, path: Path) -> None:
    from schemas.pictures.figure import save_picture

    save_picture([alert.packet], path, dpi=_PICTURE_DPI)


def _survey(sky: Sky) -> str:
    return SURVEYS[sky.survey].title


def _told(doc: str) -> str:
    """What a docstring says, without its list of parameters, the source as a sentence."""
    text = re.sub(r"\n\s*Parameters\n\s*-+\n.*?(?=\n\s*Source\n|\Z)", "\n", doc, flags=re.DOTALL)
    text = re.sub(r"\n\s*Source\n\s*-+\n\s*", "\n\nSource: ", text)
    paragraphs = [" ".join(part.split()) for part in text.split("\n\n") if part.strip()]
    return _plain("\n\n".join(paragraphs))


def _plain(text: str) -> str:
    return text.replace("|", "\\|")
