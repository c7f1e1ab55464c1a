"""An archive, read: nights as Dask dataframes and bags, one object, one packet. Lazy until asked.

archive = Archive(path)
archive.alerts(nights="2023-10-12", columns=["rb", "magpsf"], cone=(ra, dec, "1 deg"), where="rb > 0.9")
archive.light_curve("ZTF18abcdefg")
archive.packet(2475433850315015009)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from archive.read import light_curves, objects
from archive.read.columns import Tally
from archive.read.cones import cone_of
from archive.read.fragments import WHOLE, shares
from archive.read.table import PARTITION_ROWS, Table, Versions
from archive.read.view import View
from archive.read.where import conditions
from archive.tables.store import NoSuchArchive
from schemas.surveys.registry import survey_named

_BAG_ROWS = 2_048


class Archive(Table):
    """One survey's part of an archive, as it is now or (version) as it was. Pickles as its address.

    path: folder or object-store address. Raises NoSuchArchive when it is first read and not there.
    """

    def nights(self) -> pd.DataFrame:
        """The nights that are there: night (date), rows (records as they came; `alerts` shows one a candid),
        public (rows of them), files, bytes."""
        rule = survey_named(self.survey).public
        rows = [(str(f.night), f.rows, f.rows * rule.holds(f.program), 1, f.bytes) for f in self.files()]
        table = pd.DataFrame(rows, columns=["night", "rows", "public", "files", "bytes"])
        return table.groupby("night", as_index=False).sum()

    def view(
        self, columns: Sequence[str] | None = None, cone: Any = None, where: Any = None, public: bool = False
    ) -> View:
        """How the rows are to be seen.

        Parameters
        ----------
        columns
            Names that a filter may read, and the archive's own ("_topic"); all scalars where left out.
        cone
            (ra, dec, radius): degrees, or such as "1 arcmin" for the radius.
        where
            Conditions on what a filter sees: "rb >= 0.65 and fid == 1", or [("rb", ">=", 0.65), ...].
        public
            Only alerts and history rows that are public.

        Raises
        ------
        BadCone, BadCondition
            For a cone or condition that is not one.
        """
        names = columns if columns is not None else self._scalars()
        found = conditions(where)
        return View(
            tuple(dict.fromkeys(names)), self.survey, public, None if cone is None else cone_of(cone), found
        )

    def _scalars(self) -> list[str]:
        return survey_named(self.survey).scalars()

    def alerts(
        self,
        nights: Any = None,
        columns: Sequence[str] | None = None,
        cone: Any = None,
        where: Any = None,
        versions: Versions = "newest",
        public: bool = False,
        rows: int = PARTITION_ROWS,
    ) -> Any:
        """A Dask dataframe of what a filter sees: the columns asked for, then candid and objectId.

        Parameters
        ----------
        nights
            "2023-10-12", "2023-10-12..2023-10-14", a date, or a list of these; all nights where left out.
        columns
            Names that a filter may read (say, `f.reads`), derived ones and histories too, and the archive's
            own ("_topic", "_file"); all scalars where left out.
        cone
            (ra, dec, radius): degrees, or such as "1 arcmin" for the radius.
        where
            Conditions on what a filter sees: "rb >= 0.65 and fid == 1", or [("rb", ">=", 0.65), ...].
        versions
            Of several alerts with one candid the "newest", or "all" of them.
        public
            Only alerts and history rows that are public.
        rows
            Of a partition, about; each is of one night, its rows near each other on the sky.

        Returns
        -------
        dask.dataframe.DataFrame
            Nothing is read before it is computed.

        Raises
        ------
        NoSuchColumn, BadNights, BadCone, BadCondition, NoSuchArchive
            For what is not there, or not understood.
        """
        import dask.dataframe as dd

        view = self.view(columns, cone, where, public)
        parts = shares(self.select(view, nights, versions, rows), rows)
        if not parts:
            return dd.from_pandas(view.empty(), npartitions=1)
        return dd.from_map(view, parts, meta=view.empty(), enforce_metadata=False)

    def cost(
        self,
        nights: Any = None,
        columns: Sequence[str] | None = None,
        cone: Any = None,
        where: Any = None,
        versions: Versions = "newest",
        public: bool = False,
    ) -> Tally:
        """What `alerts` with these arguments would read, told by the files' footers.

        Parameters
        ----------
        nights
            "2023-10-12", "2023-10-12..2023-10-14", a date, or a list of these; all nights where left out.
        columns
            As for `alerts`.
        cone
            (ra, dec, radius): degrees, or such as "1 arcmin" for the radius.
        where
            Conditions on what a filter sees: "rb >= 0.65 and fid == 1", or [("rb", ">=", 0.65), ...].
        versions
            Of several alerts with one candid the "newest", or "all" of them.
        public
            Only alerts and history rows that are public.

        Returns
        -------
        Tally
            Its bytes are those of the column chunks, `available` those of the nights' files.
        """
        view, tally = self.view(columns, cone, where, public), Tally()
        for piece in self.select(view, nights, versions, WHOLE, tally):
            tally.add(view.reader(piece).cost(view.stored))
        return tally

    def bag(
        self,
        nights: Any = None,
        cone: Any = None,
        where: Any = None,
        versions: Versions = "newest",
        public: bool = False,
        stamps: bool = False,
    ) -> Any:
        """A Dask bag of packets as dictionaries, for work on one packet at a time (`bag.map(f.one)`).

        Parameters
        ----------
        nights
            "2023-10-12", "2023-10-12..2023-10-14", a date, or a list of these; all nights where left out.
        cone
            (ra, dec, radius): degrees, or such as "1 arcmin" for the radius.
        where
            Conditions on what a filter sees: "rb >= 0.65 and fid == 1", or [("rb", ">=", 0.65), ...].
        versions
            Of several alerts with one candid the "newest", or "all" of them.
        public
            Only alerts and history rows that are public.
        stamps
            With the image cut-outs.

        Returns
        -------
        dask.bag.Bag
            Nothing is read before it is computed.
        """
        import dask.bag
        from dask.base import tokenize
        from dask.delayed import delayed

        view = self.view((), cone, where, public)
        read = delayed(objects.packets_of, pure=True)
        every = shares(self.select(view, nights, versions, _BAG_ROWS), _BAG_ROWS)
        parts = [read(self.path, view, share, stamps) for share in every]
        if not parts:
            return dask.bag.Bag({(f"none-{tokenize(view)}", 0): []}, f"none-{tokenize(view)}", 1)
        return dask.bag.from_delayed(parts)

    def packet(self, candid: int, public: bool = False) -> bytes:
        """The alert with this candid as an Avro container file, decoding to equal values (the newest one).

        public: only if it is, and what of it is. Raises NoSuchAlert.
        """
        return self.packets([candid], public=public)[candid]

    def packets(self, candids: Sequence[int], nights: Any = None, public: bool = False) -> dict[int, bytes]:
        """The alerts with these candids as Avro container files, in this order.

        Parameters
        ----------
        candids
            Which alerts.
        nights
            As for `alerts`: only these are looked through.
        public
            Only of alerts that are public, and what of them is.

        Raises
        ------
        NoSuchAlert
            When one is not there, or not public.
        """
        return objects.packets(self, candids, nights, public)

    def light_curve(self, objectId: str, public: bool = False) -> pd.DataFrame:
        """All epochs of an object: its alerts, and the histories and upper limits that they carry, each once.

        See `archive.read.light_curves.light_curve`. Raises NoSuchAlert.
        """
        return light_curves.light_curve(self, objectId, public)

    def cutouts(self, candid: int, public: bool = False) -> dict[str, np.ndarray]:
        """The image cut-outs of an alert: "Science", "Template", "Difference" -> float32 pixels.

        public: only if the alert is. Raises NoSuchAlert; PacketError when one is no image.
        """
        return objects.cutouts(self, candid, public)


__all__ = ["Archive", "NoSuchArchive"]
