"""The simulated night of the demo, with the truth about it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

    from simulator import SimulatedAlert


@dataclass(frozen=True)
class Night:
    """What is published, and what is known of it.

    ztf, rubin: the alerts, in order of time. sources: the static sky of ZTF's fields: ra, dec (degrees), nuv,
    fuv (AB magnitudes, missing beyond the depth of GALEX), and other columns.
    """

    ztf: list[SimulatedAlert]
    rubin: list[SimulatedAlert]
    sources: pd.DataFrame

    @classmethod
    def simulated(cls, ztf: int, rubin: int, seed: int) -> Night:
        """Simulate it.

        Parameters
        ----------
        ztf
            Alerts of ZTF's night.
        rubin
            Alerts of Rubin's night, 0 for none.
        seed
            Of both skies.
        """
        import pandas as pd

        from simulator import Staged, simulate_rubin
        from simulator.packets.stream import stream_of

        staged = Staged(ztf, seed)
        cells = list(staged.cells())
        alerts = list(stream_of(cells, staged.schema, staged.stamps))
        sources = pd.concat([cell.catalogue.table().to_pandas() for cell in cells], ignore_index=True)
        return cls(alerts, list(simulate_rubin(rubin, seed)) if rubin else [], sources)

    @property
    def packets(self) -> Iterator[bytes]:
        """Those of ZTF, then those of Rubin."""
        return (alert.packet for alert in chain(self.ztf, self.rubin))

    @cached_property
    def public(self) -> pd.DataFrame:
        """The truth about ZTF's public alerts, a row an alert: `simulator.truth_table`."""
        from simulator import truth_table

        truth = truth_table(self.ztf).to_pandas()
        return truth[truth["programid"] == 1].reset_index(drop=True)
