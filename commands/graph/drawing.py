"""The live graph for people: as text, and as a picture.

The nodes come from the streamz graph itself (`stages` walks it), the rest from the configuration, so that
nothing needs to run, neither a broker nor a cluster.
"""

from __future__ import annotations

import asyncio
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from streamz import Stream

from filters.tables import text_of
from pipeline.broker.dead_letters import TOPIC as DEAD_LETTERS_TOPIC
from pipeline.channels.channel import Channel, ChannelSet
from pipeline.channels.config import RunConfig
from pipeline.channels.gaps import GAPS_TOPIC
from pipeline.live.graph import OnWorkers, connect
from pipeline.live.run import LiveRun
from pipeline.live.source import KafkaRanges
from pipeline.worker.process import process

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_SIDE_TOPICS = {
    DEAD_LETTERS_TOPIC: "records that a stage refused, with the reason",
    GAPS_TOPIC: "what a suspended channel missed, for a backfill",
}


@dataclass(frozen=True)
class Stage:
    """One node of a streamz graph: its class, its name (of a sink: its function), where its results go."""

    kind: str
    name: str
    following: tuple[int, ...]  # places in the list of stages


def stages(source: Stream) -> list[Stage]:
    """The nodes of a streamz graph from `source` on, each once, nearest first."""
    nodes = [source]
    for node in nodes:  # grows while it is walked
        nodes += [following for following in _following(node) if following not in nodes]
    return [
        Stage(type(node).__name__, _name(node), tuple(nodes.index(n) for n in _following(node)))
        for node in nodes
    ]


def _following(node: Stream) -> list[Stream]:
    return [following for following in node.downstreams if following is not None]


def _name(node: Stream) -> str:
    function = getattr(node, "func", None)
    return str(node.name or getattr(function, "__name__", "")).strip("_")


def live_stages(config: RunConfig) -> list[Stage]:
    """The stages of the live stream as `zads run` puts them together, from the same classes."""

    async def build() -> list[Stage]:
        absent = cast(Any, None)  # without membership and fleet: nothing runs, only the structure is read
        source = KafkaRanges(absent, absent, absent, absent, 0, stream_name=f"Kafka {config.topics}")
        connect(source, process, absent, cast(Any, LiveRun.settle))
        return stages(source)

    return asyncio.run(build())


def explained(stage: Stage, config: RunConfig) -> list[str]:
    """What a stage does under this configuration, in a line or two; nothing for a stage unknown here."""
    dispatch = config.dispatch
    lines = {
        "KafkaRanges": [
            f"reads as group {config.group}; new topics join by themselves",
            f"a batch goes out at {dispatch.messages} records or after {dispatch.milliseconds:g} ms,"
            " one in flight a partition",
        ],
        "OnWorkers": [
            f"{_cluster(config)}; at most {dispatch.batches_per_worker} tasks at a time for a worker",
            "one Kafka transaction a batch: alerts, dead letters, gaps and the input offset",
        ],
        "sink": ["each report: next range, another attempt, or a channel suspended; back to the source"],
    }
    return lines.get(stage.kind, [])


def _cluster(config: RunConfig) -> str:
    if config.dask.scheduler:
        return f"Dask cluster at {config.dask.scheduler}"
    workers = config.dask.workers
    return f"{workers} Dask worker{'s' * (workers != 1)} on this machine, {config.dask.memory} each"


def parameters_of(channel: Channel) -> list[str]:
    """The channel's parameters with their units, such as "gap = 30 min"; those it changes come first."""
    known = channel.filter.parameters
    changed_first = sorted(channel.filter.values.items(), key=lambda item: item[1] == known[item[0]].default)
    return [f"{name} = {_value(value)} {known[name].unit}".rstrip() for name, value in changed_first]


def _value(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else text_of(value)


def as_text(config: RunConfig, channels: ChannelSet) -> str:
    """The graph in lines, without colours, for a terminal or a pipe."""
    lines = [f"Kafka at {config.bootstrap_servers}", f"│  topics {config.topics}"]
    shape = live_stages(config)
    for stage in shape:
        bar = "│" if stage.following else " "
        lines += [
            "▼",
            f"{stage.kind} · {stage.name}",
            *(f"{bar}  {line}" for line in explained(stage, config)),
        ]
        if stage.kind == OnWorkers.__name__:
            lines += _topic_lines(channels)
    return "\n".join(lines) + "\n"


def _topic_lines(channels: ChannelSet) -> Iterator[str]:
    width = max(len(topic) for topic in [*_SIDE_TOPICS, *(channel.topic for channel in channels.channels)])
    for channel in channels.channels:
        yield f"├─► {channel.topic:{width}}  {channel.filter.name} {channel.filter.version}, {channel.access}"
        whole = [
            setting.replace(" ", "\xa0") for setting in parameters_of(channel)
        ]  # never broken in the middle
        for line in textwrap.wrap(", ".join(whole), max(40, 104 - width)):
            yield f"│   {'':{width}}  {line}".replace("\xa0", " ")
        if channel.input:
            yield f"│   {'':{width}}  reads channel {channel.input}"
        if channel.drop:
            yield f"│   {'':{width}}  without {', '.join(channel.drop)}"
    for topic, meaning in _SIDE_TOPICS.items():
        yield f"├─► {topic:{width}}  {meaning}"


# The picture. Lengths are inches, from the lower left corner.

_KAFKA, _STREAM, _DASK, _COLLABORATION, _SIDE = "#FCEBD3", "#DCEAF7", "#DFF2EA", "#EBE1F3", "#EFEFEF"
_INK, _SOFT = "#222222", "#5A5A5A"
_TOP, _LINE, _GAP, _MARGIN = 0.8, 0.6, 0.6, 0.3
_NODE_WIDE, _WORK_WIDE, _TOPIC_WIDE = 2.4, 3.1, 5.9
_NODE_HIGH, _WORK_HIGH, _END_HIGH, _DOWN, _OVER = 1.55, 2.7, 0.8, 0.7, 0.5
_FLOW_HIGH = _OVER + _WORK_HIGH + _DOWN + _END_HIGH
_LETTER = 0.0078  # width of a letter, inches for each point of its size


@dataclass(frozen=True)
class _Box:
    x: float
    y: float
    wide: float
    high: float

    @property
    def middle(self) -> float:
        return self.y + self.high / 2

    @property
    def right(self) -> float:
        return self.x + self.wide


def as_figure(config: RunConfig, channels: ChannelSet) -> Figure:
    """The graph as a matplotlib figure: nightly topics on the left, the topics it feeds on the right."""
    from matplotlib.figure import Figure

    shape = live_stages(config)
    rows = len(channels.channels) + len(_SIDE_TOPICS)
    height = max(rows * _LINE, _FLOW_HIGH) + _TOP + _MARGIN
    nightly, boxes = _layout(shape, (height - _TOP + _MARGIN + _DOWN + _END_HIGH - _OVER) / 2)
    topics_at = max(box.right for box in boxes) + 1.3
    figure = Figure(figsize=(topics_at + _TOPIC_WIDE + _MARGIN, height), facecolor="white")
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, topics_at + _TOPIC_WIDE + _MARGIN), ylim=(0, height))
    axes.set_axis_off()
    _write(axes, _MARGIN, height - 0.4, "The live stream", 16, weight="bold")
    _draw_stages(axes, shape, boxes, nightly, config)
    work = boxes[[stage.kind for stage in shape].index(OnWorkers.__name__)]
    _draw_topics(axes, channels, work, topics_at, height - _TOP)
    _write(axes, topics_at, height - 0.4, f"Kafka at {config.bootstrap_servers}", 10, _SOFT)
    return figure


def _layout(shape: Sequence[Stage], middle: float) -> tuple[_Box, list[_Box]]:
    """The box of the nightly topics and one for each stage: a line to the right, where it ends below."""
    nightly = _Box(_MARGIN, middle - _NODE_HIGH / 2, _NODE_WIDE, _NODE_HIGH)
    bottom = middle - _WORK_HIGH / 2 - _DOWN - _END_HIGH
    boxes, right = [], nightly.right
    for stage in shape:
        wide, high = (
            (_WORK_WIDE, _WORK_HIGH) if stage.kind == OnWorkers.__name__ else (_NODE_WIDE, _NODE_HIGH)
        )
        if stage.following:
            boxes.append(_Box(right + _GAP, middle - high / 2, wide, high))
            right = boxes[-1].right
        else:
            boxes.append(_Box(nightly.right + _GAP, bottom, right - nightly.right - _GAP, _END_HIGH))
    return nightly, boxes


def _draw_stages(
    axes: Axes, shape: Sequence[Stage], boxes: Sequence[_Box], nightly: _Box, config: RunConfig
) -> None:
    _draw_box(axes, nightly, _KAFKA, "nightly topics", [config.topics])
    _arrow(axes, (nightly.right, nightly.middle), (boxes[0].x, boxes[0].middle))
    for stage, box in zip(shape, boxes, strict=True):
        if stage.kind == OnWorkers.__name__:
            _draw_work(axes, box, stage, explained(stage, config))
            _draw_commit(axes, box, nightly)
        else:
            title = stage.kind if stage.following else f"{stage.kind} · {stage.name}"
            _draw_box(axes, box, _STREAM, title, explained(stage, config))
        for following in stage.following:
            _join(axes, box, boxes[following])
        if not stage.following:
            back = boxes[0].x + boxes[0].wide / 2
            _arrow(axes, (back, box.y + box.high), (back, boxes[0].y), "next range")


def _join(axes: Axes, box: _Box, following: _Box) -> None:
    if following.x > box.x:
        _arrow(axes, (box.right, box.middle), (following.x, following.middle))
    else:
        down = box.x + box.wide / 2
        _arrow(axes, (down, box.y), (down, following.y + following.high), "reports")


def _draw_work(axes: Axes, box: _Box, stage: Stage, lines: Sequence[str]) -> None:
    """The task that runs on the workers, its steps one under the other."""
    _draw_box(axes, box, _DASK, stage.kind, [])
    steps = [step.strip() for step in stage.name.split("►")]
    high = 0.27
    for place, step in enumerate(steps):
        y = box.y + box.high - 0.72 - place * (high + 0.06)
        _draw_box(axes, _Box(box.x + 0.35, y, box.wide - 0.7, high), "white", step, [], size=9.5)
    below = box.y + box.high - 0.72 - len(steps) * (high + 0.06) + 0.16
    _write_lines(axes, box.x + 0.15, below, lines, box.wide - 0.3)


def _draw_commit(axes: Axes, work: _Box, nightly: _Box) -> None:
    """The input offset goes back to where the records came from, in the transaction that delivers them."""
    start, end = work.x + work.wide / 2, nightly.x + nightly.wide / 2
    over = work.y + work.high + 0.28
    axes.plot([start, start, end], [work.y + work.high, over, over], color=_SOFT, lw=1.4, ls=(0, (4, 3)))
    _arrow(axes, (end, over), (end, nightly.y + nightly.high))
    _write(axes, end + 0.12, over + 0.13, "the input offset, in the same transaction", 8.5, _SOFT)


def _draw_topics(axes: Axes, channels: ChannelSet, work: _Box, left: float, top: float) -> None:
    """A line of boxes, each fed by the same transaction."""
    rows: list[tuple[str, str, str, str]] = [
        (
            channel.topic,
            f"{channel.filter.name} {channel.filter.version[:6]} · {channel.access}",
            ", ".join(parameters_of(channel)),
            _KAFKA if channel.public else _COLLABORATION,
        )
        for channel in channels.channels
    ]
    rows += [(topic, meaning, "", _SIDE) for topic, meaning in _SIDE_TOPICS.items()]
    trunk, high = left - 0.45, _LINE - 0.12
    middles = [top - (place + 0.5) * _LINE for place in range(len(rows))]
    axes.plot([work.right, trunk], [work.middle, work.middle], color=_SOFT, lw=1.4)
    axes.plot([trunk, trunk], [min(*middles, work.middle), max(*middles, work.middle)], color=_SOFT, lw=1.4)
    for (topic, what, settings, colour), middle in zip(rows, middles, strict=True):
        _arrow(axes, (trunk, middle), (left, middle))
        _patch(axes, _Box(left, middle - high / 2, _TOPIC_WIDE, high), colour)
        _write(axes, left + 0.12, middle + (0.1 if settings else 0), topic, 10, weight="bold")
        _write(
            axes, left + _TOPIC_WIDE - 0.12, middle + (0.1 if settings else 0), what, 8.5, _SOFT, ha="right"
        )
        _write(axes, left + 0.12, middle - 0.12, _fitting(settings, _TOPIC_WIDE - 0.2, 8), 8, _SOFT)


def _draw_box(axes: Axes, box: _Box, colour: str, title: str, lines: Sequence[str], size: float = 11) -> None:
    _patch(axes, box, colour)
    x = box.x + box.wide / 2
    if box.high < 0.5:
        _write(axes, x, box.middle, title, size, ha="center")
        return
    _write(axes, x, box.y + box.high - 0.24, title, size, weight="bold", ha="center")
    _write_lines(axes, box.x + 0.15, box.y + box.high - 0.46, lines, box.wide - 0.3)


def _patch(axes: Axes, box: _Box, colour: str) -> None:
    from matplotlib.patches import FancyBboxPatch

    round_corners = "round,pad=0,rounding_size=0.08"
    axes.add_patch(
        FancyBboxPatch(
            (box.x, box.y), box.wide, box.high, round_corners, fc=colour, ec=_SOFT, lw=0.9, zorder=2
        )
    )


def _arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float], label: str = "") -> None:
    style = {
        "arrowstyle": "-|>,head_width=0.22,head_length=0.45",
        "color": _SOFT,
        "lw": 1.4,
        "shrinkA": 0,
        "shrinkB": 0,
    }
    axes.annotate("", xy=end, xytext=start, arrowprops=style)
    if label:
        _write(axes, (start[0] + end[0]) / 2 + 0.1, (start[1] + end[1]) / 2, label, 8.5, _SOFT)


def _write_lines(
    axes: Axes, x: float, y: float, lines: Sequence[str], wide: float, size: float = 8.5
) -> None:
    """Lines from `y` downward, broken where they would be wider than `wide`."""
    for line in lines:
        for part in textwrap.wrap(line, int(wide / (_LETTER * size))):
            _write(axes, x, y, part, size, _SOFT, va="top")
            y -= 0.018 * size
        y -= 0.07


def _fitting(line: str, wide: float, size: float) -> str:
    """The line, cut where it would be wider than `wide`."""
    room = int(wide / (_LETTER * size))
    return line if len(line) <= room else line[: line.rfind(",", 0, room)] + ", …"


def _write(axes: Axes, x: float, y: float, words: str, size: float, colour: str = _INK, **how: Any) -> None:
    axes.text(
        x, y, words, fontsize=size, color=colour, **{"va": "center", "zorder": 3, **how}, parse_math=False
    )
