"""What a survey's columns are called, where they are, and of what type."""

import json
from pathlib import Path

import pyarrow as pa
import pytest

from schemas.errors import NoSuchColumn
from schemas.packets.reader import PacketReader
from schemas.surveys.registry import SURVEYS, survey_of
from schemas.surveys.survey import COMMON
from tests.schemas import oracle
from tests.schemas.conftest import ztf_schema

ZTF, LSST = SURVEYS["ztf"], SURVEYS["lsst"]


@pytest.mark.parametrize(
    ("name", "path", "kind"),
    [
        ("jd", "candidate.jd", pa.float64()),
        ("rb", "candidate.rb", pa.float32()),
        ("candid", "candid", pa.int64()),
        ("objectId", "objectId", pa.string()),
        ("fid", "candidate.fid", pa.int32()),
        ("candidate.candid", "candidate.candid", pa.int64()),
        ("prv_candidates.magpsf", "prv_candidates.magpsf", pa.large_list(pa.float32())),
        ("fp_hists.forcediffimflux", "fp_hists.forcediffimflux", pa.large_list(pa.float32())),
        ("cutoutScience.stampData", "cutoutScience.stampData", pa.large_binary()),
    ],
)
def test_columns_of_ztf(name, path, kind):
    assert ZTF.path(name) == path
    assert ZTF.arrow_type(name) == kind


def test_every_name_has_a_path_and_a_type():
    for survey in SURVEYS.values():
        for name in survey.stored_names():
            assert survey.places(name)[0] == survey.path(name)
            assert survey.arrow_type(name) is not None
        assert set(survey.stored_names()) <= set(survey.names())
        assert set(COMMON) <= set(survey.names())
        assert survey.arrow_type("*") == survey.type


def test_the_reference_has_all_fields_of_all_versions(real_alerts):
    """Every value of every ZTF version has a column; what a broker adds of its own has none."""
    for path in sorted(real_alerts.glob("ztf_*/*.avro"))[::5]:
        for top in oracle.written_with(path.read_bytes())["fields"]:
            if top["name"] == "timestamp":  # the other broker's
                continue
            names = oracle.schema_names(top["type"])
            for name in names:
                assert ZTF.arrow_type(f"{top['name']}.{name}") is not None


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("magpfs", "magpsf"),
        ("candidate.magpfs", "candidate.magpsf"),
        ("prv_candidate.jd", "prv_candidates.jd"),
        ("cutoutscience", "cutoutScience"),
        ("forcediffimflux", "fp_hists.forcediffimflux"),
    ],
)
def test_a_wrong_name_gets_the_near_ones(wrong, right):
    with pytest.raises(NoSuchColumn, match="did you mean") as caught:
        ZTF.path(wrong)
    assert repr(right) in str(caught.value)
    assert isinstance(caught.value, KeyError)


def test_surveys_are_told_by_name_and_structure(real_alerts):
    for folder, survey in {
        "ztf_3.2": "ztf",
        "ztf_4.02_spark": "ztf",
        "ztf_snappy": "ztf",
        "lsst_ocf": "lsst",
    }.items():
        for path in sorted((real_alerts / folder).glob("*"))[:40]:
            assert survey_of(oracle.written_with(path.read_bytes())) == survey
    nobody = {"type": "record", "name": "alert", "fields": [{"name": "objectId", "type": "string"}]}
    assert survey_of(nobody) == "unknown"
    assert survey_of({"type": "string"}) == survey_of("string") == survey_of(None) == "unknown"
    stranger = json.loads(json.dumps(ztf_schema())) | {"name": "other.alert"}
    assert survey_of(stranger) == "unknown"


def test_rubin_packets_have_columns_too(real_alerts):
    """Bare names are those of the source that this alert is about; what an alert lacks is null."""
    raws = [path.read_bytes() for path in sorted((real_alerts / "lsst_ocf").glob("*"))]
    columns = [*LSST.stored_names(), "prvDiaForcedSources", "cutoutScience"]
    batch = PacketReader(columns, survey="lsst").read([*raws, (ztf := next(_ztf(real_alerts)))])
    assert batch.other == {"ztf": 1}
    assert ztf
    for row, raw in zip(batch.table.to_pylist(), raws, strict=True):
        (record,) = oracle.records_of(raw)
        for name in columns:
            values = [oracle.value_at(record, place) for place in LSST.places(name)]
            there = [value for value in values if value is not None]
            assert oracle.same(row[name], there[0] if there else None), name


def _ztf(folder: Path):
    return (path.read_bytes() for path in sorted(folder.glob("ztf_4.01/*.avro")))
