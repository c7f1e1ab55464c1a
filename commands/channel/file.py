"""Channels as a file describes them, for `zads channel apply`."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from filters.limits import Limits
from pipeline.channels.config import ConfigError


class Wanted(BaseModel):
    """[channels.NAME] of the file; what is not said is the default, as for a new channel."""

    model_config = ConfigDict(extra="forbid")

    filter: str = ""
    where: str = ""
    parameters: dict[str, float | int | str | bool | dict[str, Any]] = {}
    access: Literal["public", "collaboration"] = "public"
    drop: tuple[str, ...] = ()
    topics: str = ""
    values: tuple[str, ...] = ()
    annotate: bool = False
    input: str = ""
    limits: Limits = Limits()
    owner: str = ""
    state: Literal["draft", "enabled", "paused", "retired"] = "enabled"


def read_channels(file: Path) -> dict[str, Wanted]:
    """The channels of a file. Raises ConfigError naming the key."""
    try:
        tables = tomllib.loads(file.read_text()).get("channels", {})
        return {name: Wanted.model_validate(table) for name, table in tables.items()}
    except OSError as error:
        raise ConfigError(f"cannot read {file}: {error}") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{file} is not TOML: {error}") from None
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        raise ConfigError(f"`{key}` of a channel in {file}: {first['msg']}, got {first['input']!r}") from None
