"""Models, the score of a stamp and the fit of a light curve, live through Kafka and in replay: the same
alerts, with the same values to the last digit as the filter gives of the packets."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from archive.read.archive import Archive
from archive.replay.replay import replay
from archive.write.appenders import Appenders
from cluster.kafka.broker import Broker
from filters import load
from filters.external.externals import stored_columns, to_frame
from pipeline.clients.following.follow import Follower
from pipeline.clients.publish import publish_packets
from schemas.packets.reader import PacketReader
from simulator import simulate
from tests.pipeline.night import running
from tests.pipeline.topics import records

FILTERS = {
    "by_stamp_model": "filters.models.stamps:stamp_model",
    "by_stamp_score": "stamp_point",
    "by_class_model": "filters.models.light_curves:light_curve_class",
    "by_fit": "type_ia",
}
TOPIC = "stamped_night"
Values = dict[int, dict[str, object]]


def told(name: str, packets: list[bytes]) -> Values:
    """Candid -> values, by the filter alone."""
    f = load(name)
    reads = f.require_reads()
    frame = to_frame(PacketReader(stored_columns(reads)).read(packets).table, reads)
    judged = f.judge(frame)
    return dict(zip(frame["candid"][judged.mask], judged.values.to_dict("records"), strict=True))


@pytest.mark.timeout(300)
def test_models_and_fits_live_and_in_replay(broker: Broker, tmp_path: Path) -> None:
    servers = broker.bootstrap_servers
    packets = [a.packet for a in simulate(700, seed=24, nights=3, observed=True) if a.programid == 1]
    publish_packets(packets, servers, topic=TOPIC, partitions=2)
    channels = "".join(
        f'[channels.{channel}]\nfilter = "{name}"\naccess = "collaboration"\n'
        for channel, name in FILTERS.items()
    )
    (tmp_path / "zads.toml").write_text(f"[dispatch]\nmessages = 100\n{channels}")
    with running(servers, tmp_path, "--topics", f"^{TOPIC}$", "--until-drained") as run:
        assert run.wait() == 0, run.text()
    Follower(Appenders(str(tmp_path / "archive")), f"^{TOPIC}$", servers, TOPIC).run(until_drained=True)
    archive = Archive(tmp_path / "archive")
    for channel, name in FILTERS.items():
        expected = told(name, packets)
        assert expected, name
        headers = [dict(record.headers()) for record in records(servers, f"collab.{channel}")]
        live = {int(one["candid"]): json.loads(one["values"]) for one in headers}
        assert live == expected, name
        matches = replay(load(name), archive, versions="all", public=False).matches
        again = matches[list(load(name).gives)].to_dict("records")
        assert dict(zip(matches["candid"], again, strict=True)) == expected, name
