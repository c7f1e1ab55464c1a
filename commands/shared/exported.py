"""A channel as one file: the filter's text, parameters, what it reads beside the alert, its backtest."""

from __future__ import annotations

from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ValidationError

from commands.shared.why import asked_channel, names_channel
from pipeline.channels.definition import Definition
from schemas.errors import ZadsError

if TYPE_CHECKING:
    from filters import Filter

ENDING = ".json"


class Exported(BaseModel):
    """What the file holds. zads: the version that wrote it. external: catalogue, region or sky map -> the
    version that the filter read there. version: of the filter there."""

    format: Literal["zads-channel-1"] = "zads-channel-1"
    zads: str = ""
    when: str = ""
    version: str = ""
    external: dict[str, str] = {}
    channel: Definition

    def filter(self) -> Filter:
        """The filter with its parameters. Raises ChannelError."""
        return self.channel.loaded()

    def differences(self) -> list[str]:
        """Differences between this machine and the one where it was written, one sentence each."""
        from filters.external import Store

        here, found = self.filter().version, []
        if here != self.version:
            found.append(
                f"the filter is version {here} here and was {self.version} there: the code that it depends on"
                f" differs (there zads {self.zads}, here {version('zads')})"
            )
        known = Store()
        for name, there in self.external.items():
            own = known.current(name) if name in known.names() else "not there"
            if own != there:
                found.append(f"it reads {name} in version {there}; here that is {own}")
        return found


def export_of(definition: Definition) -> Exported:
    """The file's content for a channel; who changed what is left out. Raises ChannelError."""
    from filters.external import Store
    from filters.external.externals import external_names

    chosen = definition.loaded()
    names = {name.partition(".")[0] for name in external_names((*chosen.require_reads(), *definition.values))}
    known = Store()
    external = {name: known.current(name) for name in sorted(names & set(known.names()))}
    report = {key: value for key, value in (definition.report or {}).items() if key != "archive"} or None
    nobody = {"revision": 0, "who": "", "when": "", "why": "", "state": "draft", "report": report}
    plain = definition.model_copy(update=nobody)
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return Exported(zads=version("zads"), when=now, version=chosen.version, external=external, channel=plain)


def read_export(path: Path) -> Exported:
    """A file that `zads channel export` wrote. Raises ZadsError."""
    try:
        return Exported.model_validate_json(path.read_bytes())
    except OSError as error:
        raise ZadsError(f"cannot read {path}: {error.strerror}") from None
    except ValidationError as error:
        first: Any = error.errors()[0]
        raise ZadsError(
            f"{path} is no exported channel: {'.'.join(map(str, first['loc']))} {first['msg']}",
            hint="`zads channel export NAME` writes one",
        ) from None


def filter_named(named: str, config: Path | None = None, bootstrap: str | None = None) -> Filter:
    """A filter as people name it.

    Parameters
    ----------
    named
        As `filters.load` takes it, the file of an exported channel, or a channel: channel.NAME.
    config
        The configuration file, which names the broker and the folder of lists; None: zads.toml of this
        folder, if any.
    bootstrap
        Address of the broker, host:port; None: as configured. For a channel.

    Raises
    ------
    ZadsError
        When there is no such filter, file or channel.
    """
    from commands.shared.options import look_for_lists_in
    from filters import load

    if config is not None:
        from pipeline.channels.config import read_config

        look_for_lists_in(read_config(config).external)
    if names_channel(named):
        return asked_channel(named, config, bootstrap).channel.filter
    if named.endswith(ENDING) and Path(named).is_file():
        return read_export(Path(named)).filter()
    return load(named)
