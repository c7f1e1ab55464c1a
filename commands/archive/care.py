"""`zads archive info | quarantine | check | optimize | vacuum`: maintenance of the archive."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from commands.shared.options import Archive, Bootstrap, Config, Survey, archive_at, counted, people
from schemas.json_text import to_json

if TYPE_CHECKING:
    from archive.care.care import Info
    from archive.care.check import Checked

Nights = Annotated[
    list[str] | None,
    typer.Option("--night", help="UT date, 2023-10-12; may be repeated.", show_default="all"),
]
_TOLD = 20  # findings that are printed


def register(app: typer.Typer) -> None:
    """Add the commands to the group."""
    for command in (info, quarantine, check, optimize, vacuum):
        app.command(command.__name__)(command)


def info(
    archive: Archive = None,
    survey: Survey = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a survey and line.")] = False,
) -> None:
    """Nights, rows, bytes, schemas and what is in quarantine.

    A row is a record as it came; of several rows with one candid the newest is the alert.
    `zads archive check` counts both.

    Example: `zads archive info --archive /data/alerts`
    """
    from archive.care.care import info as look

    for name in _surveys(archive, survey):
        told = look(archive_at(archive), name)
        if as_json:
            print(to_json(_plain(told)))
        else:
            _show(told)


def _surveys(archive: str | None, survey: str | None) -> list[str]:
    """The survey that was named, else all that the archive has a table of. Raises NoSuchArchive."""
    from archive.tables.store import surveys_in

    return [survey] if survey is not None else surveys_in(archive_at(archive))


def _show(told: Info) -> None:
    """A survey's table for people."""
    table = Table("night", "program", "rows", "files", "MB", box=None)
    for column in table.columns[2:]:
        column.justify = "right"
    for night in told.nights:
        words = (night.night or "none", night.program or "none", f"{night.rows:,}", f"{night.files:,}")
        table.add_row(*words, f"{night.bytes / 1e6:,.1f}")
    people.print(table)
    people.print(
        f"{told.address}, version {told.version}: {counted(told.rows, 'row')}, {told.bytes / 1e6:,.1f} MB",
        soft_wrap=True,
    )
    people.print("schemas: " + ", ".join(f"{name} ({len(of)})" for name, of in told.schemas.items()))
    for reason, packets in sorted(told.quarantined.items()):
        people.print(f"[red]quarantined: {reason}[/red]  {packets:,}")


def _plain(told: Info) -> dict[str, object]:
    return {
        "address": told.address,
        "version": told.version,
        "rows": told.rows,
        "bytes": told.bytes,
        "nights": [vars(night) for night in told.nights],
        "schemas": told.schemas,
        "quarantined": told.quarantined,
    }


def quarantine(
    archive: Archive = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a packet and line.")] = False,
    save: Annotated[
        Path | None, typer.Option(help="Folder to write the packets to, as they came: 0.avro, 1.avro ...")
    ] = None,
) -> None:
    """What could not be kept as an alert: why, and where it came from.

    Example: `zads archive quarantine --json | jq .reason`
    """
    from archive.layout import QUARANTINE, table_of
    from archive.tables.store import is_table, surveys_in
    from archive.write.quarantine import Quarantine

    address = archive_at(archive)
    if not is_table(table_of(address, QUARANTINE)):
        surveys_in(address)  # raises NoSuchArchive
    rows = Quarantine(address).rows()
    table = Table("", "reason", "packet", "why", box=None)
    table.columns[2].overflow = "fold"  # the end of a path says most
    for number, row in enumerate(rows.drop_columns(["raw"]).to_pylist()):
        record = None if row["_topic"] is None else f"{row['_topic']}/{row['_partition']}/{row['_offset']}"
        source = row["_file"] or record
        if as_json:
            words = {"number": number, "reason": row["reason"], "detail": row["detail"], "source": source}
            print(to_json({**words, "survey": row["survey"], "kept": row["_ingested"].isoformat()}))
        table.add_row(str(number), row["reason"], escape(str(source)), escape(row["detail"]))
    if not as_json:
        people.print(table if rows.num_rows else "nothing is in quarantine")
    if save is not None:
        save.mkdir(parents=True, exist_ok=True)
        for number, raw in enumerate(rows["raw"]):
            (save / f"{number}.avro").write_bytes(raw.as_buffer())
        people.print(f"{counted(rows.num_rows, 'packet')} in {save}", soft_wrap=True)


def check(
    archive: Archive = None,
    survey: Survey = None,
    night: Nights = None,
    kafka: Annotated[
        bool, typer.Option("--kafka", help="Ask the broker whether missing offsets held records.")
    ] = False,
    bootstrap: Bootstrap = None,
    config: Config = None,
) -> None:
    """Compare every body with its columns; find duplicates, missing files and gaps in Kafka's offsets.

    Reads all that there is. Ends with exit code 1 when something is wrong. Offsets that are missing may be
    markers of transactions: with --kafka the broker tells.

    Example: `zads archive check --night 2023-10-12 --kafka`
    """
    from archive.care.check import check as inspect

    sound = True
    for name in _surveys(archive, survey):
        with people.status(f"checking {name}") as status:
            checked = inspect(
                archive_at(archive),
                name,
                nights=night or None,
                progress=lambda c, files: status.update(
                    f"{c.files} of {files} files, {counted(c.rows, 'row')}"
                ),
            )
        sound &= _report(checked)
        if kafka and not _all_there(checked, bootstrap, config):
            sound = False
    if not sound:
        raise typer.Exit(1)


def _report(checked: Checked) -> bool:
    people.print(
        f"{counted(checked.rows, 'row')} in {counted(checked.files, 'file')} looked at:"
        f" {counted(checked.alerts, 'alert')},"
        f" {counted(checked.superseded, 'row')} superseded by a newer one of the same candid"
    )
    for finding in checked.findings[:_TOLD]:
        people.print(f"[red]{finding.kind}[/red]: {finding.detail}", soft_wrap=True)
    if len(checked.findings) > _TOLD:
        people.print(f"and {len(checked.findings) - _TOLD:,} more")
    if not checked.findings:
        people.print("bodies and columns agree; no record is there twice")
    if checked.gaps:
        offsets = sum(gap.high - gap.low for gap in checked.gaps)
        people.print(
            f"{offsets:,} offsets in {len(checked.gaps):,} gaps are in neither table (--kafka tells more)"
        )
    return checked.sound


def _all_there(checked: Checked, bootstrap: str | None, config: Path | None) -> bool:
    from commands.shared.bootstrap import connection
    from pipeline.clients.missed import missed

    broker, settings = connection(bootstrap, config)
    lost = missed(checked.gaps, broker, **settings)
    for topic, partition, offset in lost[:_TOLD]:
        people.print(f"[red]missed[/red]: {topic}/{partition}/{offset}", soft_wrap=True)
    people.print(f"{len(lost):,} of the missing offsets hold records at {broker}")
    return not lost


def optimize(
    archive: Archive = None,
    survey: Survey = None,
    night: Nights = None,
) -> None:
    """Put small files together, in the order of the sky; readers and the archiver are not disturbed.

    Nights to which nothing has come for an hour (or those named) are sorted as a whole. The old files stay
    until `zads archive vacuum`.

    Example: `zads archive optimize`
    """
    from archive.write.optimize import optimize as put_together

    for name in _surveys(archive, survey):
        with people.status(f"optimizing {name}") as status:
            done = put_together(
                archive_at(archive),
                name,
                nights=night or None,
                progress=lambda d: status.update(f"{counted(d.before, 'file')} into {d.after:,}"),
            )
        if done.before:
            people.print(f"{name}: {done.before:,} files are now {done.after:,} ({done.bytes / 1e6:,.1f} MB)")
        else:
            people.print(f"{name}: nothing to do: no night has files that lie on the same part of the sky")


def vacuum(
    archive: Archive = None,
    hours: Annotated[int, typer.Option(min=0, help="Keep what went out of use within so many hours.")] = 168,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only name the files.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Allow less than 168 hours.")] = False,
) -> None:
    """Remove files that are no part of the archive any more, or were left by a killed writer.

    Example: `zads archive vacuum --dry-run`
    """
    from archive.care.care import RETENTION_HOURS
    from archive.care.care import vacuum as remove
    from schemas.errors import ZadsError

    if hours < RETENTION_HOURS and not force:
        raise ZadsError(
            f"somebody may be reading or writing files of the last {RETENTION_HOURS} hours",
            hint="stop them and use --force",
        )
    surveys = _surveys(archive, None)
    removed = [
        path
        for name in surveys
        for path in remove(archive_at(archive), name, hours=hours, dry_run=dry_run, force=force)
    ]
    for path in dict.fromkeys(removed):
        print(path)
    people.print(f"{len(removed):,} files {'would be' if dry_run else 'were'} removed")
