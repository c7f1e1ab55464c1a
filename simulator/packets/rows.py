"""The records of a quadrant's alerts: candidate, the thirty days before it, and forced photometry."""

from __future__ import annotations

from typing import Any

import numpy as np

from simulator.measure.catalogue import hashed
from simulator.measure.exposures import CANDIDATE_ONLY, SHARED
from simulator.packets.encode import Nullable, Rows, array_of
from simulator.packets.neighbourhood import FORCED_MISSING, Neighbourhood
from simulator.packets.packet import PacketWriter
from simulator.packets.quadrant import Quadrant
from simulator.sky.telescope import HISTORY_DAYS

Columns = dict[str, Any]
# Columns of a detection that a row without one leaves null.
_BESIDE = ("east", "north")
_SOLAR = ("ssdistnr", "ssmagnr", "ssnamenr")


class RowWriter:
    """Writes the records of one cell in one schema version.

    Parameters
    ----------
    cell
        The quadrant.
    hood
        The static sources around its alerts.
    writer
        Of the schema version.
    """

    def __init__(self, cell: Quadrant, hood: Neighbourhood, writer: PacketWriter) -> None:
        self._cell, self._hood, self._writer = cell, hood, writer
        self._previous: Rows | None = None

    def parts(self, d: np.ndarray) -> list[dict[str, Any]]:
        """For each detection its encoded candidate, `prv_candidates` and, where there is one, `fp_hists`."""
        if not len(d):
            return []
        records = self._writer.candidate.write_each(self.candidates(d))
        found = [
            {"candidate": record, "prv_candidates": past}
            for record, past in zip(records, self._past(d), strict=True)
        ]
        if self._writer.forced is not None:
            for parts, forced in zip(found, self._forced(d), strict=True):
                parts["fp_hists"] = forced
        return found

    def candidates(self, d: np.ndarray) -> Rows:
        """Candidate records, ready to be written."""
        return self._writer.candidate.rows(self._candidates(d), len(d))

    def _candidates(self, d: np.ndarray) -> Columns:
        """The columns of candidate records."""
        cell = self._cell
        visit = cell.seen.visit[d]
        detection = {name: _chosen(column, d) for name, column in _detections(cell, self._hood, d).items()}
        paths = detection["pdiffimfilename"]
        scorr = cell.measured["scorr"][d]
        ssnrms = 4 + scorr * (1.4 + 0.5 * hashed(cell.seed, 60, cell.candid[d]))
        return {
            **detection,
            **{name: _chosen(cell.exposure[name], visit - cell.first) for name in CANDIDATE_ONLY},
            **self._hood.columns(d),
            "pdiffimfilename": [path.rsplit("/", 1)[-1].removesuffix(".fz") for path in paths],
            **{name: cell.solar[name][cell.seen.owner[d]] for name in _SOLAR},
            "ndethist": cell.ndethist[d],
            "ncovhist": visit + 1,
            "jdstarthist": cell.jdstarthist[d],
            "jdendhist": cell.visits.jd[visit],
            "tooflag": 0,
            "dsnrms": 0.4 * ssnrms,
            "ssnrms": ssnrms,
            "dsdiff": 0.4 * ssnrms - ssnrms,
        }

    def _past(self, d: np.ndarray) -> list[bytes | None]:
        """Rows of the thirty days before each detection, oldest first, of all programs."""
        cell, late = self._cell, self._cell.visits.jd[self._cell.first :]
        visit = cell.seen.visit[d] - cell.first
        begin = np.searchsorted(late, late[visit] - HISTORY_DAYS)
        flat, count = _ranges(begin, visit)
        slot = cell.slot[np.repeat(cell.seen.owner[d], count), flat]
        chosen = np.where(slot >= 0, slot, len(cell.seen.visit) + flat)
        return _arrays(*self._writer.previous.write(self._previous_rows(), chosen), count)

    def _previous_rows(self) -> Rows:
        """All detections of the cell, then all its late visits as non-detections."""
        if self._previous is None:
            cell = self._cell
            every = np.arange(len(cell.seen.visit))
            columns = _detections(cell, self._hood, every)
            limits = len(cell.visits) - cell.first
            absent = np.arange(len(every) + limits) >= len(every)
            visit = np.concatenate([cell.seen.visit - cell.first, np.arange(limits)])
            known = cell.solar["known"][cell.seen.owner]
            merged: Columns = {}
            for name, column in columns.items():
                merged[name] = Nullable(_padded(column, limits), absent)
            for name in _SOLAR:
                missing = absent.copy()
                missing[: len(every)] |= ~known
                merged[name] = Nullable(_padded(cell.solar[name][cell.seen.owner], limits), missing)
            merged |= {n: _chosen(cell.exposure[n], visit) for n in (*SHARED, "pdiffimfilename")}
            self._previous = self._writer.previous.rows(merged, len(visit))
        return self._previous

    def _forced(self, d: np.ndarray) -> list[bytes | None]:
        """Forced photometry of the earlier nights in the window, latest first, as in the real packets."""
        cell, encoder = self._cell, self._writer.forced
        assert encoder is not None
        late, night = cell.visits.jd[cell.first :], cell.visits.night[cell.first :]
        visit = cell.seen.visit[d] - cell.first
        begin = np.searchsorted(late, late[visit] - HISTORY_DAYS)
        end = np.maximum(np.searchsorted(night, night[visit]), begin)
        flat, count = _ranges(begin, end)
        flat = np.repeat(begin + end - 1, count) - flat  # latest first
        columns = self._forced_columns(np.repeat(cell.seen.owner[d], count), flat)
        rows = encoder.rows(columns, len(flat))
        return _arrays(*encoder.write(rows, np.arange(len(flat))), count)

    def _forced_columns(self, owner: np.ndarray, late: np.ndarray) -> Columns:
        """Forced flux (DN) at the source's place: the alert's own photons, so that joins on pid agree.

        Shares of the processing codes as in the real packets.
        """
        cell = self._cell
        columns = {name: _chosen(column, late) for name, column in cell.exposure.items()}
        first = np.array([o.candid[0] for o in cell.observed])
        mix = hashed(cell.seed, 61, first[owner], late + cell.first)
        status = np.select([mix < 0.15, mix < 0.20, mix < 0.21], ["61", "56", "55"], "0")
        lost = (status == "61") | (status == "55")
        flux, sigma = cell.flux[owner, late], cell.sigma[owner, late]
        columns |= self._hood.forced_reference(owner, columns["fid"])
        return columns | {
            "forcediffimflux": np.where(lost, FORCED_MISSING, flux),
            "forcediffimfluxunc": np.where(lost, FORCED_MISSING, sigma),
            "procstatus": status,
        }


def _detections(cell: Quadrant, hood: Neighbourhood, d: np.ndarray) -> Columns:
    """Columns that candidate and history row share, of every detection of the cell (`d` is not applied to
    them) except those that are looked up for the chosen ones."""
    owner, late = cell.seen.owner, cell.seen.visit - cell.first
    fid = cell.visits.fid[cell.seen.visit]
    return {
        **{name: _chosen(cell.exposure[name], late) for name in (*SHARED, "pdiffimfilename")},
        **{name: column for name, column in cell.measured.items() if name not in _BESIDE},
        **hood.reference(owner, fid),
        "isdiffpos": np.where(cell.seen.flux > 0, "t", "f"),
        "candid": cell.candid,
        "tblid": cell.tblid,
        "distnr": hood.reference_pixels(np.arange(len(owner))),
    }


def _chosen(column: Any, index: np.ndarray) -> Any:
    """Some values of a column; one value for all stays one."""
    return column[index] if isinstance(column, np.ndarray) else column


def _padded(column: Any, more: int) -> Any:
    """A column with rows whose value does not matter."""
    if not isinstance(column, np.ndarray):
        return column
    return np.concatenate([column, np.repeat(column[:1], more)])


def _ranges(begin: np.ndarray, end: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """begin, begin + 1, ..., end − 1 of each pair, one after the other; and how many of each."""
    count = end - begin
    ends = np.cumsum(count)
    return np.arange(ends[-1]) - np.repeat(ends - count - begin, count), count


def _arrays(written: memoryview, ends: np.ndarray, count: np.ndarray) -> list[bytes | None]:
    """Rows written one after the other as Avro arrays of `count` rows; None where there is none."""
    last = np.cumsum(count)
    borders = zip(count.tolist(), ends[last - count].tolist(), ends[last].tolist(), strict=True)
    return [array_of(n, written[a:b]) if n else None for n, a, b in borders]
