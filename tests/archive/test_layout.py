"""The words of the layout, each by itself."""

from __future__ import annotations

import astropy.units as u
import numpy as np
import pyarrow as pa
import pytest
from astropy.coordinates import SkyCoord
from astropy.time import Time
from cdshealpix.nested import healpix_to_skycoord
from hypothesis import given
from hypothesis import strategies as st

from archive.layout import file_schema, healpix29, newest, night_dates, partitions, table_schema
from schemas.surveys.registry import SURVEYS
from schemas.time import night_of


@pytest.mark.parametrize("survey", SURVEYS)
def test_every_value_of_the_survey_has_a_column(survey: str) -> None:
    schema = table_schema(survey)
    assert set(SURVEYS[survey].stored_names()) <= set(schema.names)
    assert set(file_schema(survey).names) == set(schema.names) - set(partitions(survey))


@pytest.mark.parametrize("survey", SURVEYS)
def test_names_differ_for_readers_that_do_not_know_capitals(survey: str) -> None:
    names = [name.lower() for name in table_schema(survey).names]
    assert len(set(names)) == len(names)


@given(st.floats(0, 359.999), st.floats(-90, 90))
def test_a_healpix_number_is_where_the_position_is(ra: float, dec: float) -> None:
    (number,) = healpix29([ra], [dec]).to_pylist()
    back = healpix_to_skycoord(np.array([number], np.uint64), 29)[0]
    assert back.separation(SkyCoord(ra * u.deg, dec * u.deg)).arcsec < 0.01  # a cell has 0.4 mas


@given(st.floats(0, 359.999), st.floats(-90, 90), st.integers(0, 28))
def test_the_bits_of_a_healpix_number_are_those_of_the_coarser_cell(
    ra: float, dec: float, order: int
) -> None:
    """The HATS convention: an order-n cell is `_healpix_29 >> 2 (29 - n)`."""
    from cdshealpix.nested import lonlat_to_healpix

    (number,) = healpix29([ra], [dec]).to_pylist()
    position = SkyCoord(ra * u.deg, dec * u.deg)
    assert number >> 2 * (29 - order) == lonlat_to_healpix(position.ra, position.dec, order)[0]


def test_what_is_nowhere_on_the_sky_has_no_number() -> None:
    ra = pa.array([1.0, None, float("nan"), 10.0, float("inf")])
    dec = pa.array([2.0, 3.0, 4.0, -90.5, 0.0])
    assert healpix29(ra, dec).is_null().to_pylist() == [False, True, True, True, True]


@given(st.floats(2457754.5, 2461400.5))
def test_a_night_is_the_ut_date(jd: float) -> None:
    (date,) = night_dates([night_of(jd)]).to_pylist()
    assert str(date) == Time(jd, format="jd", scale="utc", precision=9).isot[:10]


def test_no_time_no_night() -> None:
    assert night_dates([float("nan"), 1e300, -1e300]).null_count == 3


_MAYBE = st.one_of(st.none(), st.integers(0, 3))


@given(st.lists(st.tuples(st.integers(1, 4), _MAYBE, _MAYBE), max_size=20))
def test_the_newest_of_several_versions(rows: list[tuple[int, int | None, int | None]]) -> None:
    """Against the sentence: larger timestamp, then offset; for files the later ingest; Kafka before files."""
    columns = {
        "candid": [row[0] for row in rows],
        "_timestamp": [row[1] for row in rows],
        "_offset": [row[2] if row[1] is not None else None for row in rows],
        "_ingested": list(range(len(rows))),
    }
    table = pa.table({name: pa.array(values, pa.int64()) for name, values in columns.items()})

    def age(row: int) -> tuple[int, int, int]:
        time, offset = columns["_timestamp"][row], columns["_offset"][row]
        return (-1 if time is None else time, -1 if offset is None else offset, row)

    expected = {max((r for r in range(len(rows)) if rows[r][0] == candid), key=age) for candid, *_ in rows}
    assert newest(table).tolist() == sorted(expected)
