"""The filter of the design, and small frames to run filters on, for the tests of the contract."""

from typing import Annotated, Any

import pandas as pd

from filters import Filter, alert_filter, history
from filters.external.externals import to_frame
from tests.filters.packets import alert, detection
from tests.frames import table_of_packets


@alert_filter(
    survey="ztf",
    reads=["jd", "night", "positive", "prv_candidates.jd", "prv_candidates.night", "prv_candidates.magpsf"],
)
def as_designed(alerts, *, gap: Annotated[float, "min"] = 30):  # type: ignore[no-untyped-def]
    """Two detections tonight more than `gap` apart, none before (Bellm et al. 2017)."""
    past = history(alerts, "prv_candidates")  # flat, Arrow-backed, one row an epoch
    seen = past[past["magpsf"].notna()]
    tonight = seen["night"] == seen.alert["night"]  # the alert's own value on each of its rows
    minutes = (seen.alert["jd"] - seen["jd"]) * 1440
    return {
        "positive": alerts["positive"],
        "seen again tonight": seen[tonight & (minutes > gap)].any(),
        "none before": seen[~tonight].count() == 0,
    }


NIGHT = [
    alert([detection(31)]) | {"candid": 1},
    alert([detection(29)]) | {"candid": 2},
    alert([detection(31)], isdiffpos="f") | {"candid": 3, "objectId": "ZTF18other"},
]


def frame(f: Filter, packets: list[dict[str, Any]] | None = None) -> pd.DataFrame:
    reads = f.require_reads()
    return to_frame(table_of_packets(NIGHT if packets is None else packets, reads), reads)


def a_filter(body: Any, reads: list[str] | None = None) -> Filter:
    """A filter with this body, named `broken`."""

    def broken(alerts: pd.DataFrame) -> Any:
        return body(alerts)

    return alert_filter(survey="ztf", reads=["rb"] if reads is None else reads)(broken)
