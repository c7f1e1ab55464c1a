"""Monitoring: every metric that a rule or panel names is there in a live scrape, and counts right."""

from __future__ import annotations

import configparser
import json
import shlex
import signal
import socket
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import promql_parser as promql
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families
from typer.testing import CliRunner

from cluster.kafka.broker import Broker
from commands import application
from commands.shared.metrics import STILL_SECONDS, Health, served
from pipeline.broker.client import topic_names
from pipeline.live.told.metrics import RunMetrics
from schemas.errors import ZadsError
from tests.archive.test_follow import Following, following
from tests.pipeline import topics
from tests.pipeline.night import delivered, expected, night, publish_night, running

CLUSTER = Path(__file__).resolve().parents[2] / "cluster"
MONITORING = CLUSTER / "monitoring"
RULES = [
    rule
    for group in yaml.safe_load((MONITORING / "alerts.yaml").read_text())["groups"]
    for rule in group["rules"]
]
PANELS = json.loads((MONITORING / "grafana.json").read_text())["panels"]
EXPRESSIONS = [rule["expr"] for rule in RULES] + [t["expr"] for panel in PANELS for t in panel["targets"]]


def selected(node: Any) -> Iterator[str]:
    """The names of the metrics in an expression."""
    if isinstance(node, promql.VectorSelector):
        yield node.name
    for name in ("lhs", "rhs", "expr", "vector_selector", "args"):
        inner = getattr(node, name, None)
        for one in inner if isinstance(inner, list) else [inner]:
            if one is not None:
                yield from selected(one)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def get(port: int, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, ""
    except OSError:
        return 0, ""


class Scrape:
    """Samples by name, as Prometheus reads them."""

    def __init__(self, port: int) -> None:
        code, text = get(port, "/metrics")
        assert code == 200
        self.samples = [s for family in text_string_to_metric_families(text) for s in family.samples]
        self.declared = {family.name for family in text_string_to_metric_families(text)}

    def value(self, name: str, **labels: str) -> float:
        return sum(s.value for s in self.samples if s.name == name and labels.items() <= s.labels.items())

    @property
    def names(self) -> set[str]:
        """Of samples, and of counters of which no label has come up yet."""
        return {s.name for s in self.samples} | self.declared | {f"{name}_total" for name in self.declared}


@contextmanager
def both(broker: Broker, folder: Path) -> Iterator[tuple[Any, Following, int, int]]:
    """A run and an archive that follows, each with its page."""
    run_port, archive_port = free_port(), free_port()
    servers, port = broker.bootstrap_servers, ("--metrics-port", str(archive_port))
    flags = ("--channels", "real_bogus", "--workers", "1", "--metrics-port", str(run_port))
    flags += ("--log-format", "json")
    (folder / "run").mkdir()
    follow = following(broker, folder, "--seconds", "0.5", *port, "--log-format", "json")
    with running(servers, folder / "run", *flags) as run, follow as archiver:
        yield run, archiver, run_port, archive_port


def test_rules_and_panels_name_what_is_there_and_the_numbers_are_right(
    own_broker: Broker, tmp_path: Path
) -> None:
    alerts = night()[:300]
    wanted = expected("real_bogus", alerts)
    publish_night(own_broker.bootstrap_servers, alerts)
    topic = topic_names(own_broker.bootstrap_servers, "^ztf_")[0]
    topics.write(own_broker.bootstrap_servers, topic, b"hello", partition=2)
    with both(own_broker, tmp_path) as (run, archiver, run_port, archive_port):
        run.until(lambda: get(run_port, "/ready")[0] == 200, "ready")
        run.until(lambda: get(archive_port, "/live")[0] == 200, "the archiver's page")
        run.until(lambda: delivered(own_broker.bootstrap_servers, "channel.real_bogus") == wanted, "all")
        run.until(lambda: Scrape(archive_port).value("zads_archive_kept_total") == 300, "all kept")
        run.until(lambda: Scrape(run_port).value("zads_alerts_total") == 300, "all counted")
        run.until(lambda: Scrape(run_port).value("zads_lag_records") == 0, "the lag to be looked at")
        run.until(lambda: Scrape(run_port).value("zads_worker_memory_bytes") > 50e6, "the memory of a worker")
        run.until(lambda: Scrape(run_port).value("zads_worker_partitions") == 4, "its partitions")
        run.until(lambda: get(archive_port, "/ready")[0] == 200, "the archiver to be ready")
        live, kept = Scrape(run_port), Scrape(archive_port)
        assert get(run_port, "/live")[0] == get(archive_port, "/live")[0] == 200
        assert get(run_port, "/nowhere")[0] == 404
        run.process.send_signal(signal.SIGINT)
        assert run.wait(60) == 0, run.text()
        archiver.process.send_signal(signal.SIGINT)
        assert archiver.process.wait(60) == 0, archiver.log.read_text()
    kept_lines = [json.loads(line) for line in archiver.log.read_text().splitlines()]
    assert {"progress", "ended"} <= {line["message"] for line in kept_lines}
    assert (kept_lines[-1]["read"], kept_lines[-1]["kept"], kept_lines[-1]["quarantined"]) == (301, 300, 1)
    assert_each_line_is_json(run.text(), topic)
    assert live.value("zads_records_total") == 301
    assert live.value("zads_delivered_total", channel="real_bogus") == wanted.total()
    batches = live.value("zads_batches_total")
    assert live.value("zads_latency_seconds_count") == live.value("zads_latency_seconds_bucket", le="+Inf")
    assert live.value("zads_latency_seconds_count") == batches > 0
    assert live.value("zads_workers") == 1
    assert live.value("zads_worker_threads") > 4
    assert live.value("zads_worker_handles") > 4
    assert live.value("zads_channel_suspended", channel="real_bogus") == 0
    assert live.value("zads_filter_seconds_total", channel="real_bogus") > 0
    assert live.value("zads_stage_seconds_total", stage="decode") > 0
    for expression in EXPRESSIONS:
        names = set(selected(promql.parse(expression)))
        assert names, expression
        assert names <= live.names | kept.names, expression


def assert_each_line_is_json(text: str, topic: str) -> None:
    """And the dead letter's line says where it is."""
    lines = [json.loads(line) for line in text.splitlines()]
    assert all({"time", "level", "logger", "message"} <= line.keys() for line in lines)
    (letter,) = [line for line in lines if line["message"].startswith("dead letters")]
    assert (letter["topic"], letter["partition"]) == (topic, 2)
    assert letter["offset"] >= 0
    assert lines[-1]["message"] == "ended"
    assert (lines[-1]["records"], lines[-1]["dead_letters"]) == (301, {"not-avro": 1})


def test_each_rule_says_what_to_do() -> None:
    assert len(RULES) >= 10
    assert max(Counter(rule["alert"] for rule in RULES).values()) == 1
    for rule in RULES:
        assert rule["labels"]["severity"] in ("page", "ticket")
        assert all(len(rule["annotations"][word]) > 10 for word in ("summary", "runbook"))


@pytest.mark.parametrize("unit", ["zads-run", "zads-archive"])
def test_the_units_start_what_there_is(unit: str) -> None:
    parsed = configparser.ConfigParser(strict=False, interpolation=None)
    parsed.optionxform = str  # type: ignore[assignment,method-assign]
    parsed.read(CLUSTER / "systemd" / f"{unit}.service")
    assert {"Unit", "Service", "Install"} <= set(parsed.sections())
    program, *words = shlex.split(parsed["Service"]["ExecStart"])
    assert program.endswith("/zads")
    command = list(words[: next(i for i, word in enumerate(words) if word.startswith("--"))])
    shown = CliRunner().invoke(application(), [*command, "--help"], env={"COLUMNS": "200"}).stdout
    assert all(word in shown for word in words if word.startswith("--"))
    (scraped,) = yaml.safe_load((MONITORING / "prometheus.yaml").read_text())["scrape_configs"]
    port = words[words.index("--metrics-port") + 1]
    assert f"localhost:{port}" in scraped["static_configs"][0]["targets"]


def test_what_stands_still_is_not_alive() -> None:
    now = [0.0]
    health = Health(clock=lambda: now[0])
    with served(0, RunMetrics(), health) as port:
        assert port
        assert (get(port, "/live")[0], get(port, "/ready")[0]) == (200, 503)
        health.beat(ready=True)
        assert get(port, "/ready")[0] == 200
        now[0] = STILL_SECONDS
        assert (get(port, "/live")[0], get(port, "/ready")[0]) == (503, 503)
        health.beat(ready=True)
        assert get(port, "/live")[0] == 200
        with pytest.raises(ZadsError, match=str(port)), served(port, RunMetrics(), health):
            pass
