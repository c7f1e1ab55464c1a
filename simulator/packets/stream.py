"""The simulated sky as a stream: alerts in time order, from a count or from a density.

`simulate` gives exactly so many alerts of a staged night. `Month` gives what a telescope would send in some
nights, in one stream or in parts that processes share: a part is some quadrants, and the packets of a
quadrant are the same bytes in every process.
"""

import heapq
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from simulator.measure.census import census_by_count, census_of_cell
from simulator.packets.cell import Cell, SimulatedAlert
from simulator.packets.packet import PacketWriter, packet_writer
from simulator.sky.merger import Merger, merger_in
from simulator.sky.population import Sky
from simulator.sky.telescope import Plan, Survey

Versions = str | Sequence[str]


def simulate(
    alerts: int,
    seed: int,
    nights: int = 1,
    schema: Versions = "4.01",
    stamps: bool = True,
    observed: bool = False,
) -> Iterator[SimulatedAlert]:
    """Exactly so many alerts of a simulated sky, in time order, from a seed.

    The survey runs for 400 nights; those before the emitted ones appear in histories only. The same arguments
    give the same bytes.

    Parameters
    ----------
    alerts
        How many.
    seed
        Any whole number.
    nights
        Of the last so many nights.
    schema
        A schema version, or several that share each night's exposures.
    stamps
        With image cut-outs.
    observed
        Type Ia supernovae have light curves as observed, not those of the template: for whoever fits it.

    Raises
    ------
    ValueError
        When the arguments cannot be served: at once when that can be seen from them, else at the first alert.
    """
    return iter(Staged(alerts, seed, nights, schema, stamps, observed))


@dataclass(frozen=True)
class Staged:
    """What `simulate` makes: exactly so many alerts, the rare kinds raised, the last nights fair."""

    alerts: int
    seed: int
    nights: int = 1
    schema: Versions = "4.01"
    stamps: bool = True
    observed: bool = False

    def __post_init__(self) -> None:
        if self.alerts < 1:
            raise ValueError(f"cannot simulate {self.alerts} alerts: ask for 1 or more")
        writers_of(self.schema)
        _ = self.plan

    @property
    def plan(self) -> Plan:
        return Plan.of_alerts(self.alerts, self.nights)

    def survey(self) -> Survey:
        """The survey, with its observing log."""
        return Survey(self.plan, self.seed)

    def cells(self) -> Iterator[Cell]:
        """The quadrants, each with all its sources. Raises ValueError when the sky cannot give the alerts."""
        survey = self.survey()
        sky = Sky(survey, self.plan.emitted, staged=True, observed=self.observed)
        cells = census_by_count(sky, self.alerts, self.seed)
        return (Cell(survey, self.seed, place, observed) for place, observed in cells.items())

    def __iter__(self) -> Iterator[SimulatedAlert]:
        return stream_of(self.cells(), self.schema, self.stamps)


def stream_of(cells: Iterable[Cell], schema: Versions, stamps: bool) -> Iterator[SimulatedAlert]:
    """The alerts of some quadrants in order of time, then candid.

    Parameters
    ----------
    cells
        The quadrants.
    schema
        A schema version, or several that share each night's exposures: "3.3,4.02".
    stamps
        With image cut-outs.

    Raises
    ------
    ValueError
        For a schema version that is not known.
    """
    writers = writers_of(schema)
    streams = [cell.alerts(writers, stamps) for cell in cells]
    yield from heapq.merge(*streams, key=lambda alert: (alert.jd, alert.candid))


def writers_of(schema: Versions) -> list[PacketWriter]:
    """Writers of one or several versions ("3.3,4.02"). Raises ValueError for one that is not known."""
    names = schema.split(",") if isinstance(schema, str) else schema
    return [packet_writer(name.strip()) for name in names]


@dataclass(frozen=True)
class Month:
    """Some nights of a simulated survey, by density. Iterating gives the alerts in time order.

    nights: the last so many; density: object density relative to the real sky (1.0); rare: the same for
    supernovae and other rare kinds, relative to `density`; merging: with a neutron-star merger and its
    kilonova; fields and quadrants: how much of the sky, up to 64 quadrants a field; schema: as for
    `simulate`.
    """

    nights: int = 30
    density: float = 1.0
    seed: int = 1
    fields: int = 4
    quadrants: int = 8
    rare: float = 1.0
    merging: bool = False
    schema: Versions = "4.01"
    stamps: bool = True

    def __post_init__(self) -> None:
        if self.density <= 0 or self.rare < 0:
            raise ValueError(
                f"cannot simulate a density of {self.density} and {self.rare} times the rare kinds"
            )
        writers_of(self.schema)
        _ = self.plan

    @property
    def plan(self) -> Plan:
        return Plan(self.fields, self.quadrants, self.nights)

    def survey(self) -> Survey:
        """The survey, with its observing log."""
        return Survey(self.plan, self.seed)

    def merger(self, survey: Survey) -> Merger | None:
        """The merger of this month, if it has one."""
        return merger_in(survey, self.plan, self.seed) if self.merging else None

    def partitions(self, number: int) -> list["Part"]:
        """The month in `number` parts, which are small picklable objects.

        Together they give exactly the packets of the month, in whichever process each is iterated.
        """
        if number < 1:
            raise ValueError(f"cannot divide a month into {number} parts: ask for 1 or more")
        places = [(i, q) for i, f in enumerate(self.survey().fields) for q in f.quadrants]
        return [Part(self, tuple(places[k::number])) for k in range(number)]

    def __iter__(self) -> Iterator[SimulatedAlert]:
        return iter(self.partitions(1)[0])


@dataclass(frozen=True)
class Part:
    """Some quadrants of a month: (field index, rcid) each. Iterating gives their alerts in time order."""

    month: Month
    places: tuple[tuple[int, int], ...]

    def __iter__(self) -> Iterator[SimulatedAlert]:
        return stream_of(self.cells(), self.month.schema, self.month.stamps)

    def by_quadrant(self) -> Iterator[tuple[Cell, Iterator[SimulatedAlert]]]:
        """The quadrants one after the other, each in time order: needs the memory of one only."""
        writers = writers_of(self.month.schema)
        for cell in self.cells():
            yield cell, cell.alerts(writers, self.month.stamps)

    def cells(self) -> Iterator[Cell]:
        """The quadrants that have something to send."""
        month, survey = self.month, self.month.survey()
        merger = month.merger(survey)
        for place in self.places:
            sky = Sky(survey, month.plan.emitted, cell=place)
            here = merger is not None and (merger.place.field, merger.place.rcid) == place
            extra = [merger.source(month.seed)] if merger is not None and here else []
            observed = census_of_cell(sky, month.seed, month.density, month.rare, extra)
            if observed:
                yield Cell(survey, month.seed, place, observed)
