"""`zads listen`: the alerts of a topic, for people, for pipes, or onto disk."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from commands.shared.options import Bootstrap, Config, Schemas, counted, people
from schemas.json_text import to_json

if TYPE_CHECKING:
    from pipeline.broker.listen import Alert, Listener


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("listen")(listen)


def listen(
    topic: Annotated[str, typer.Argument(help="A topic, or with ^ in front a pattern: '^ztf_20231012'.")],
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object an alert and line.")] = False,
    save: Annotated[
        Path | None,
        typer.Option(
            help="Folder to keep the packets in, CANDID_TOPIC_PARTITION_OFFSET.avro each.", file_okay=False
        ),
    ] = None,
    until_drained: Annotated[
        bool, typer.Option("--until-drained", help="End when everything that is there now has been read.")
    ] = False,
    limit: Annotated[int | None, typer.Option(min=1, help="End after so many alerts.")] = None,
    new: Annotated[bool, typer.Option("--new", help="Only what comes from now on.")] = False,
    since: Annotated[
        str | None,
        typer.Option(help="Begin with what was written then: 2023-10-12T08:30 (UTC), or ago: 20min, 3h, 2d."),
    ] = None,
    last: Annotated[int | None, typer.Option(min=1, help="Begin so many alerts before the end.")] = None,
    group: Annotated[
        str | None, typer.Option(help="Consumer group, to go on next time where this one ended.")
    ] = None,
    schema_source: Schemas = None,
    bootstrap: Bootstrap = None,
    config: Config = None,
) -> None:
    """Listen to a topic: a table as the alerts come, or JSON lines, and the packets onto disk.

    Only alerts whose delivery was committed are seen, each once. Ctrl-C ends. What zads itself keeps in
    Kafka, such as the answers to a user, comes as JSON lines.

    Example: `zads listen channel.young_supernova --json --until-drained | jq .objectId`
    """
    from commands.listen.digest import Digester
    from commands.listen.saved import Folder
    from commands.shared.bootstrap import connection, schemas
    from pipeline.broker.listen import Listener
    from pipeline.broker.reading.begin import moment_of

    _refuse_two_beginnings(group, new, since, last)
    moment = moment_of(since) if since else None
    broker, kafka = connection(bootstrap, config)
    source = schemas(schema_source, config)
    listener = Listener(topic, broker, until_drained, group, not new, source, moment, last, **kafka)
    own = topic.startswith("zads.")
    digest = _told if own else Digester(source).digest
    folder = Folder(save) if save else None
    show = _as_json if as_json or own else _Rows(many_topics=topic.startswith("^")).show
    count = 0
    with listener, _ends_quietly() as ending:
        for alert, line in _up_to(limit, listener, digest, ending):
            if folder is not None:
                folder.keep(alert, line.get("candid"))
            show(line)
            listener.has_read(alert)
            count += 1
            if ending.asked:
                break
    people.print(f"{counted(count, 'record' if own else 'alert')}" + (f", packets in {save}" if save else ""))


def _refuse_two_beginnings(group: str | None, new: bool, since: str | None, last: int | None) -> None:
    named = {"--group": group, "--new": new or None, "--since": since, "--last": last}
    given = [name for name, value in named.items() if value is not None]
    if len(given) > 1 and given != ["--group", "--new"]:
        raise typer.BadParameter(f"{' and '.join(given)} both say where to begin")


def _up_to(
    limit: int | None,
    listener: Listener,
    digest: Callable[[Sequence[Alert]], list[dict[str, Any]]],
    ending: _Ending,
) -> Iterator[tuple[Alert, dict[str, Any]]]:
    """Each alert with its digest, at most `limit`; ends too when nobody reads standard output any more."""
    left = limit
    for batch in listener.batches():
        alerts = batch if left is None else batch[:left]
        if not alerts and (ending.asked or _nobody_reads()):
            return
        yield from zip(alerts, digest(alerts), strict=True)
        if left is not None and (left := left - len(alerts)) == 0:
            return


def _told(records: Sequence[Alert]) -> list[dict[str, Any]]:
    """What records of zads itself say; what was taken away says nothing."""
    values = [json.loads(record.raw) if record.raw else None for record in records]
    return [value if isinstance(value, dict) else {"value": value} for value in values]


def _nobody_reads() -> bool:
    """Whether the pipe behind standard output is closed: `... | head` ends without another alert."""
    try:
        watcher = select.poll()
        watcher.register(sys.stdout.fileno(), 0)
    except (AttributeError, OSError, ValueError):
        # No such system call here, or standard output is no real file: a write will raise instead.
        return False
    return any(event & select.POLLERR for _, event in watcher.poll(0))


class _Ending:
    """After Ctrl-C the present alert is finished, so that a group remembers what was shown."""

    asked = False

    def ask(self, *_: object) -> None:
        """The signal handler."""
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True


@contextlib.contextmanager
def _ends_quietly() -> Iterator[_Ending]:
    """Ctrl-C and a closed pipe are the ordinary ends of listening."""
    ending = _Ending()
    before = signal.signal(signal.SIGINT, ending.ask)
    try:
        yield ending
    except KeyboardInterrupt:
        pass
    except BrokenPipeError:
        # Python flushes standard output once more at exit, which would complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    finally:
        signal.signal(signal.SIGINT, before)


def _as_json(line: dict[str, Any]) -> None:
    print(to_json(line), flush=True)


class _Rows:
    """A table that grows: its head, then a row as each alert comes."""

    _COLUMNS: tuple[tuple[str, int], ...] = (
        ("objectId", 14),
        ("candid", 19),
        ("time (UTC)", 19),
        ("band", 4),
        ("mag", 6),
        ("real", 5),
        ("RA (deg)", 10),
        ("Dec (deg)", 10),
    )

    def __init__(self, many_topics: bool) -> None:
        self._many_topics = many_topics
        self._headed = False

    def show(self, line: dict[str, Any]) -> None:
        """Print one alert's row."""
        if not self._headed:
            self._headed = True
            head = "  ".join(f"{name:<{width}}" for name, width in self._COLUMNS)
            people.print(f"[bold]{head}  values[/bold]", soft_wrap=True, highlight=False)
        print(self._row(line), flush=True)

    def _row(self, line: dict[str, Any]) -> str:
        cells = (
            line["objectId"],
            line["candid"],
            _time(line["jd"]),
            line.get("band"),
            _number(line.get("mag"), 3),
            _number(line.get("rank"), 2),
            _number(line["ra"], 5),
            _number(line["dec"], 5),
        )
        columns = zip(cells, self._COLUMNS, strict=True)
        row = "  ".join(f"{'' if cell is None else cell!s:<{width}}" for cell, (_, width) in columns)
        extra = [line["topic"]] if self._many_topics else []
        extra += [f"{name}={_value(value)}" for name, value in (line.get("values") or {}).items()]
        extra += [line["error"]] if "error" in line else []
        return "  ".join([row, *extra]).rstrip()


def _time(jd: float | None) -> str | None:
    """UTC of a Julian date, to the second."""
    if jd is None:
        return None
    from schemas.time import datetime_of_jd

    try:
        return f"{datetime_of_jd(jd):%Y-%m-%d %H:%M:%S}"
    except OverflowError:
        return f"jd {jd}"


def _value(value: Any) -> str:
    """A value that came with an alert, short."""
    if value is None:
        return "missing"
    return f"{value:.5g}" if isinstance(value, float) else str(value)


def _number(value: float | None, digits: int) -> str | None:
    return None if value is None else f"{value:.{digits}f}"
