"""Records of several surveys as they arrive -> the archive: each source into the table of its survey.

A source (a partition of a topic) always belongs to the same survey: the one whose table has a mark for it,
else the one whose topics look like its own, else that of its first readable record. What a topic holds of
another survey goes to the quarantine, with the reason.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from archive.layout import table_of
from archive.tables.store import is_table
from archive.write.appender import Appended, Appender, Arrived, Limits
from schemas.avro.framing import Framer, SchemaSource
from schemas.errors import PacketError
from schemas.surveys.registry import SURVEYS, survey_of_topic


class Appenders:
    """Appends to the tables of all surveys. For one thread.

    A source is named by its application id; see `Appender`.

    Parameters
    ----------
    archive
        Address of the archive.
    schemas
        Where the schemas of packets with Confluent framing are looked up.
    limits
        When to write; None: the defaults.
    """

    def __init__(
        self, archive: str, schemas: SchemaSource | None = None, limits: Limits | None = None
    ) -> None:
        self._archive, self._schemas, self._limits = str(archive), schemas, limits
        self._framer = Framer(schemas)
        self._appenders: dict[str, Appender] = {}
        self._survey_of: dict[str, str] = {}

    @property
    def appended(self) -> Appended:
        """What has been written so far, to all tables."""
        every = [appender.appended for appender in self._appenders.values()]
        return Appended(
            kept=sum(one.kept for one in every),
            quarantined=sum(one.quarantined for one in every),
            commits=sum(one.commits for one in every),
            bytes=sum(one.bytes for one in every),
        )

    @property
    def due(self) -> bool:
        """Whether it is time to flush."""
        return any(appender.due for appender in self._appenders.values())

    def marks(self, apps: Iterable[str]) -> dict[str, int]:
        """Where each source is to go on; a source that is new is left out. Forgets what was gathered."""
        wanted, marks = list(apps), dict[str, int]()
        for survey in SURVEYS:
            if survey in self._appenders or is_table(table_of(self._archive, survey)):
                its_own = self._appender(survey).marks(wanted)
                self._survey_of |= dict.fromkeys(its_own, survey)
                marks |= its_own
        return marks

    def append(self, app: str, records: Sequence[Arrived], next_position: int) -> None:
        """Collect records of a source, in order, beginning at its mark; `flush` writes them.

        Parameters
        ----------
        app
            Application id of the source.
        records
            The records.
        next_position
            Where the source goes on after them. It may be further than the last record, because positions
            have gaps.
        """
        survey = self._survey_of.get(app) or self._decided(app, records)
        if survey is not None:
            self._appender(survey).append(app, records, next_position)

    def flush(self) -> dict[str, int] | None:
        """Write what was gathered; answers where the sources stand now.

        None when another archiver has gone on with one of the sources: `marks` says where to go on. Raises
        Unreachable when a schema registry or an object store does not answer; what was gathered is still
        there then.
        """
        stands = [appender.flush() for appender in self._appenders.values()]
        told: dict[str, int] = {}
        for stand in stands:
            if stand is None:
                return None
            told |= stand
        return told

    def _appender(self, survey: str) -> Appender:
        if survey not in self._appenders:
            self._appenders[survey] = Appender(self._archive, survey, self._schemas, self._limits)
        return self._appenders[survey]

    def _decided(self, app: str, records: Sequence[Arrived]) -> str | None:
        """The survey of a new source; None while it holds nothing."""
        if not records:
            return None
        survey = survey_of_topic(records[0].topic) or self._of_first(records)
        self._survey_of[app] = survey
        return survey

    def _of_first(self, records: Sequence[Arrived]) -> str:
        for record in records:
            try:
                survey = self._framer.frame(record.raw).writer.survey
            except PacketError:
                continue
            if survey in SURVEYS:
                return survey
        return next(iter(SURVEYS))
