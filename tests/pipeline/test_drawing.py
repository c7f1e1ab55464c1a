"""The live graph as text and as a picture: its nodes are the stream's, its topics the channels'."""

import pytest
import typer
from streamz import Stream
from typer.testing import CliRunner

from commands.graph import command as graph
from commands.graph.drawing import as_figure, as_text, live_stages, parameters_of, stages
from pipeline.channels.config import ConfigError, channel_set, read_config

TOML = """
bootstrap_servers = "broker.example:9092"
topics = "^ztf_2025.*$"
group = "night_watch"
[dask]
workers = 3
[dispatch]
messages = 123
[channels.supernovae]
filter = "young_supernova"
parameters = {gap = 25}
[channels.flares]
filter = "two_detections_30min"
access = "collaboration"
drop = ["cutoutTemplate"]
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "zads.toml"
    path.write_text(TOML)
    return path


@pytest.fixture
def live(file):
    config = read_config(file)
    return config, channel_set(config)


def test_stages_are_the_streams_nodes_each_once():
    source = Stream(stream_name="head")
    left, right = source.map(str), source.filter(bool)
    left.union(right).sink(print)
    found = stages(source)
    assert [stage.kind for stage in found] == ["Stream", "map", "filter", "union", "sink"]
    assert [stage.following for stage in found] == [(1, 2), (3,), (3,), (4,), ()]
    assert (found[0].name, found[4].name) == ("head", "print")


def test_a_stream_in_a_circle_is_walked_once():
    source = Stream()
    source.map(str).connect(source)
    assert [stage.following for stage in stages(source)] == [(1,), (0,)]


def test_the_live_stages_are_those_of_a_run(live):
    found = live_stages(live[0])
    assert [stage.kind for stage in found] == ["KafkaRanges", "OnWorkers", "sink"]
    assert [stage.following for stage in found] == [(1,), (2,), ()]
    assert "^ztf_2025.*$" in found[0].name
    assert found[2].name == "settle"


def test_the_text_says_what_runs_in_order(live):
    text = as_text(*live)
    said = [
        *("broker.example:9092", "^ztf_2025.*$", "KafkaRanges", "night_watch", "123 records"),
        *("OnWorkers", "decode ► filter", "3 Dask workers"),
        *("channel.supernovae", "young_supernova", "public", "gap = 25 min"),
        *("collab.flares", "collaboration", "cutoutTemplate"),
        *("zads.dead-letters", "zads.gaps", "settle"),
    ]
    places = [text.find(word) for word in said]
    assert -1 not in places, said[places.index(-1)]
    assert places == sorted(places)


def test_a_parameter_that_a_channel_changes_comes_first_with_its_unit(live):
    supernovae = live[1].channels[0]
    assert parameters_of(supernovae)[0] == "gap = 25 min"
    assert len(parameters_of(supernovae)) == len(supernovae.filter.values)


@pytest.mark.parametrize("copies", [1, 12])
def test_the_picture_has_each_topic_once_and_all_words_inside(file, copies):
    extra = "".join(f'[channels.more_{n}]\nfilter = "real_bogus"\n' for n in range(copies))
    file.write_text(TOML + extra)
    config = read_config(file)
    channels = channel_set(config)
    figure = as_figure(config, channels)
    figure.canvas.draw()
    words = [text.get_text() for text in figure.axes[0].texts]
    for topic in [
        *(channel.topic for channel in channels.channels),
        "zads.dead-letters",
        "zads.gaps",
        "filter",
    ]:
        assert words.count(topic) == 1
    for text in figure.axes[0].texts:
        box = text.get_window_extent()
        assert figure.bbox.x0 <= box.x0 <= box.x1 <= figure.bbox.x1, text.get_text()
        assert figure.bbox.y0 <= box.y0 <= box.y1 <= figure.bbox.y1, text.get_text()


def test_no_words_lie_on_others(live):
    figure = as_figure(*live)
    figure.canvas.draw()
    boxes = [(t.get_text(), t.get_window_extent()) for t in figure.axes[0].texts if t.get_text()]
    for place, (words, box) in enumerate(boxes):
        for others, other in boxes[:place]:
            overlap_x = min(box.x1, other.x1) - max(box.x0, other.x0)
            overlap_y = min(box.y1, other.y1) - max(box.y0, other.y0)
            assert overlap_x <= 1 or overlap_y <= 3, f"{words!r} on {others!r}"


@pytest.fixture
def run():
    app = typer.Typer()
    graph.register(app)
    return lambda *words: CliRunner().invoke(app, [str(word) for word in words])


def test_the_command_prints_the_text_and_draws_the_picture(run, live, file, tmp_path):
    done = run("--config", file, "--out", tmp_path / "graph.svg")
    assert done.exit_code == 0, done.output
    assert done.stdout == as_text(*live)
    assert "collab.flares" in as_text(*live)
    assert "<svg" in (tmp_path / "graph.svg").read_text()


def test_the_command_takes_some_channels(run, file):
    done = run("--config", file, "--channels", "flares")
    assert "collab.flares" in done.stdout
    assert "channel.supernovae" not in done.stdout


def test_an_unknown_channel_is_named(run, file):
    done = run("--config", file, "--channels", "nonsuch")
    assert isinstance(done.exception, ConfigError)
    assert "nonsuch" in str(done.exception)
