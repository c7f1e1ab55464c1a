"""Who we are to a secured broker: a profile, a file with a Kafka client's settings for its owner's eyes only.

    [kafka]
    bootstrap.servers = kafka.observatory.org:9092
    security.protocol = SASL_SSL
    sasl.mechanism = SCRAM-SHA-512
    sasl.username = ann
    sasl.password = ...
    ssl.ca.pem = -----BEGIN CERTIFICATE-----
        ...

Each process reads its own, named by ZADS_PROFILE: a secret is in no configuration, task or pickle.
"""

from __future__ import annotations

import configparser
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from schemas.errors import ZadsError

VARIABLE = "ZADS_PROFILE"
"""Environment variable: a profile's file, or the name of one in `profiles` of ZADS_HOME."""

SERVERS = "bootstrap.servers"
_SECTION = "kafka"
_SECRETS = {
    "sasl.password",
    "ssl.key.pem",
    "ssl.key.password",
    "ssl.keystore.password",
    "sasl.oauthbearer.config",
    "sasl.oauthbearer.client.secret",
    "sasl.oauthbearer.assertion.private.key.pem",
    "sasl.oauthbearer.assertion.private.key.passphrase",
}
"""librdkafka's keys whose values nobody else may see."""


class ProfileError(ZadsError):
    """A profile that is not there, is no profile, or can be read by others."""


def profile_file(name: str) -> Path:
    """The file of a profile: a path, or NAME for profiles/NAME.ini of ZADS_HOME. Raises ProfileError."""
    given = Path(name).expanduser()
    if given.is_file():
        return given.absolute()
    folder = Path(os.environ.get("ZADS_HOME") or Path.home() / ".zads").expanduser() / "profiles"
    if (kept := folder / f"{name}.ini").is_file() and "/" not in name:
        return kept.absolute()
    known = ", ".join(sorted(file.stem for file in folder.glob("*.ini"))) or "none"
    raise ProfileError(
        f"no profile {name}: it is neither a file nor in {folder} (there: {known})",
        hint="an operator gets you one with `zads user add`; name it with --as FILE or ZADS_PROFILE",
    )


def profile(name: str | None = None) -> dict[str, str]:
    """The settings of a profile, as any Kafka client made with librdkafka takes them.

    name: of the profile, or its file; None for the one that ZADS_PROFILE names, and nothing without one.
    `listen("channel.bright", **profile("ann.ini"))`. Raises ProfileError.
    """
    chosen = name or os.environ.get(VARIABLE)
    if not chosen:
        return {}
    file = profile_file(chosen)
    if file.stat().st_mode & 0o077:
        raise ProfileError(f"others may read the profile {file}", hint=f"chmod 600 {file}")
    read = configparser.ConfigParser(interpolation=None)
    read.optionxform = str  # type: ignore[assignment,method-assign]
    try:
        read.read_string(file.read_text())
        return dict(read[_SECTION])
    except (configparser.Error, KeyError, UnicodeDecodeError):
        # Their messages would show lines of the file.
        raise ProfileError(
            f"{file} is no profile: it is to have a section [{_SECTION}] with lines `key = value`"
        ) from None


def credentials() -> dict[str, str]:
    """How this process makes itself known, whichever broker it talks to. Raises ProfileError."""
    return {key: value for key, value in profile().items() if key != SERVERS}


def user_name() -> str:
    """The user whose profile is in use, "" without a profile or with one that has a certificate."""
    return profile().get("sasl.username", "")


def refuse_secrets(settings: Mapping[str, Any], where: str) -> None:
    """Raise ProfileError when settings hold a secret; where: what to call them."""
    if found := sorted(_SECRETS & settings.keys()):
        raise ProfileError(
            f"`{found[0]}` in {where}: a secret has no place there",
            hint=f"keep it in a profile that only you can read, and name that with --as or {VARIABLE}",
        )
