"""JSON that a reader with floats of 64 bits takes for what it is."""

import json
import math

from hypothesis import given
from hypothesis import strategies as st

from schemas.json_text import plain_json, to_json

numbers = st.integers(-(2**63), 2**63 - 1) | st.floats()
values = st.recursive(
    st.none() | st.booleans() | numbers | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


def members(value):
    if isinstance(value, dict):
        yield from value.items()
    for one in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from members(one)


@given(values, st.none() | st.integers(0, 2**63 - 1))
def test_as_a_browser_reads_it(value, candid):
    """Every number as a float, as JavaScript and jq have it; words that JSON lacks are an error."""
    whole = {"value": value, "candid": candid}
    read = json.loads(
        to_json(whole), parse_int=float, parse_constant=lambda word: (_ for _ in ()).throw(ValueError(word))
    )
    assert read["candid_str"] == (None if candid is None else str(candid))
    plain = plain_json(whole)
    for name, one in members(plain):
        if isinstance(one, int) and not isinstance(one, bool) and int(float(one)) != one:
            assert (f"{name}_str", str(one)) in list(members(plain))
        assert not (isinstance(one, float) and not math.isfinite(one))
    assert json.loads(to_json(whole))["candid"] == candid
