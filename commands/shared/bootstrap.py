"""The Kafka broker that a command uses by default, and its settings."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from schemas.errors import ZadsError

if TYPE_CHECKING:
    from schemas.avro.framing import SchemaSource

_LAST_RESORT = "localhost:9092"
_VARIABLE = "ZADS_BOOTSTRAP_SERVERS"


def default_bootstrap(named: str | None = None) -> str:
    """`named`, else the profile's, ZADS_BOOTSTRAP_SERVERS, that of `zads broker start`, localhost:9092.

    A broker of this machine that was stopped keeps its port: then it is that one that does not answer.
    """
    from pipeline.broker.profile import SERVERS, profile

    if named or (named := profile().get(SERVERS) or os.environ.get(_VARIABLE)):
        return named
    from cluster.kafka.broker import status

    ours = status()
    last = f"localhost:{ours.last_port}" if ours.last_port else _LAST_RESORT
    return ours.bootstrap_servers or last


def connection(bootstrap: str | None, config: Path | None) -> tuple[str, dict[str, Any]]:
    """The broker and librdkafka's own keys for a command that needs no more of the configuration.

    zads.toml of this folder is read when there is one and `config` names no other: `bootstrap_servers`
    counts after the flag, the profile and the environment, [kafka] holds librdkafka's keys. Raises ZadsError
    naming the file.
    """
    from pipeline.broker.profile import SERVERS, profile, refuse_secrets

    settings = unchecked_settings(config)
    kafka = dict(settings.get("kafka", {}))
    refuse_secrets(kafka, "[kafka] of the configuration")
    named = bootstrap or profile().get(SERVERS) or os.environ.get(_VARIABLE)
    return default_bootstrap(named or settings.get("bootstrap_servers")), kafka


def schemas(named: str | None, config: Path | None, patience: float = 0) -> SchemaSource | None:
    """The schema source that a flag names, else the one of the configuration; None without one.

    Parameters
    ----------
    named
        URL of a registry, name of a survey, or a folder; None: not given.
    config
        The configuration file; None: zads.toml of this folder, if any.
    patience
        Seconds to wait for an id that a registry does not have yet.
    """
    from schemas.avro.framing import schema_source

    where = named or unchecked_settings(config).get("schemas")
    return schema_source(where, patience) if where else None


def unchecked_settings(config: Path | None) -> dict[str, Any]:
    """The configuration, unchecked: what else is in it is for `zads run` to judge. Raises ZadsError, OSError.

    config: the file; None: zads.toml of this folder, if any.
    """
    file = config if config is not None else Path("zads.toml")
    return _read(file) if config is not None or file.is_file() else {}


def _read(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text())
    except FileNotFoundError:
        raise ZadsError(f"no configuration file at {file}") from None
    except tomllib.TOMLDecodeError as error:
        raise ZadsError(f"{file} is not TOML: {error}") from None
