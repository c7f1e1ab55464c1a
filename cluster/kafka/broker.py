"""Apache Kafka on this machine without Docker, root or an installed Java.

An owned broker (`with Broker() as broker`) ends with its owner; a detached one (`zads broker start`) stays.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType

import psutil

from cluster.errors import ClusterError
from cluster.home import profiles, zads_home
from cluster.kafka import ports
from cluster.kafka.node import STOPPED_WITHIN_S, Launch, Node, Secured
from cluster.kafka.pins import Say, to_stderr
from cluster.kafka.settings import DEFAULT_PORT
from cluster.kafka.state import Folder, State

SUPERVISOR = Path(__file__).with_name("supervisor.py")
STARTS = 3


class Broker:
    """A Kafka broker that never outlives the process that started it, even if that process is killed.

    Port and data stay the same over stop() and start().

    Parameters
    ----------
    home
        Folder of its data and state; None: a temporary one, removed when the `with` block (or the process)
        ends.
    port
        Port to listen on; None: a free one.
    java
        A `java` program or a Java home; None: the one of the installation.
    settings
        Lines of server.properties to replace or add.
    secured
        TLS, users with passwords, nothing allowed by default; None: an open broker.
    say
        Called with messages for people.
    """

    def __init__(
        self,
        home: Path | None = None,
        port: int | None = None,
        java: str | None = None,
        *,
        settings: Mapping[str, str] | None = None,
        secured: Secured | None = None,
        say: Say = to_stderr,
    ) -> None:
        self._temporary = None if home else _temporary_home()
        self.home = Path(home or self._temporary.name)  # type: ignore[union-attr]
        self._node = Node(Folder.below(self.home), port, java=java, settings=dict(settings or {}), say=say)
        self._node.short_lived, self._node.secured = True, secured
        self._state: State | None = None
        self._supervisor: subprocess.Popen[bytes] | None = None

    @property
    def port(self) -> int:
        """The port it listens on; ClusterError before the first start."""
        if self._state is None:
            raise ClusterError("The broker was not started: call start(), or use it in a `with` block.")
        return self._state.port

    @property
    def bootstrap_servers(self) -> str:
        """The address for Kafka clients; ClusterError before the first start."""
        return f"127.0.0.1:{self.port}"

    @property
    def operator(self) -> dict[str, str]:
        """A Kafka client's settings (librdkafka's keys) with which everything is allowed."""
        if self._state is None:
            raise ClusterError("The broker was not started: call start(), or use it in a `with` block.")
        return self._node.operator(self._state)

    @property
    def ca(self) -> str:
        """What clients of a secured broker trust: its CA's certificate, PEM. Raises ClusterError."""
        return self._node.security().ca

    @property
    def pid(self) -> int | None:
        """The JVM's process id while it runs."""
        return self._state.pid if self._state and self.is_running() else None

    def is_running(self) -> bool:
        """Whether the JVM lives."""
        return self._supervisor is not None and self._supervisor.poll() is None

    def start(self) -> Broker:
        """Start it and return when it serves; nothing when it runs.

        Raises ClusterError when it cannot start, with the log's telling line.
        """
        if self.is_running():
            return self
        with self._node.folder.starting():
            self._node.refuse_if_running()
            self._state = _first_that_binds(self._node, self._start_once)
        return self

    def _start_once(self, launch: Launch) -> State:
        order = {
            "command": launch.command,
            "environment": launch.environment,
            "output": str(self._node.folder.output),
            "owner": os.getpid(),
            "grace": STOPPED_WITHIN_S,
            "remove": self._temporary.name if self._temporary else None,
        }
        self._supervisor = subprocess.Popen(
            [sys.executable, "-I", "-S", str(SUPERVISOR), json.dumps(order)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C in the owner's terminal is the owner's to handle
        )
        assert self._supervisor.stdout is not None
        pid = self._supervisor.stdout.readline()
        state = replace(launch.state, owned=True)
        if pid.strip():
            state = _with_process(state, int(pid))
            self._node.folder.write(state)
        try:
            self._node.wait_until_ready(state, self.is_running)
        except BaseException:  # an interrupt too must not leave a JVM
            self.stop()
            raise
        return state

    def stop(self) -> None:
        """End it in order, so that the next start is quick; nothing when it does not run."""
        if self._supervisor is None:
            return
        assert self._supervisor.stdin is not None
        assert self._supervisor.stdout is not None
        self._supervisor.stdin.close()  # the signal to the supervisor
        self._supervisor.wait()
        self._supervisor.stdout.close()
        self._supervisor = None
        self._node.adopt_archive()

    def kill(self) -> None:
        """Kill it, as a power cut would (SIGKILL); start() then recovers what was on disk."""
        if self._state and self._state.process():
            self._state.process().kill()  # type: ignore[union-attr]
        self.stop()

    def restart(self) -> Broker:
        """Stop and start again, on the same port with the same data."""
        self.stop()
        return self.start()

    def logs(self, n: int = 50) -> list[str]:
        """The last `n` lines of its log."""
        return _last_lines(self._node.folder, n)

    def tool(self, main_class: str, arguments: Sequence[str]) -> str:
        """Run a tool of Kafka's own (`kafka.admin.ConfigCommand` …) and return its output.

        Raises ClusterError with its telling line when it fails.
        """
        return self._node.tool(main_class, arguments)

    def __enter__(self) -> Broker:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()
        if self._temporary:
            self._temporary.cleanup()


def _temporary_home() -> tempfile.TemporaryDirectory[str]:
    parent = zads_home() / "temporary"
    parent.mkdir(parents=True, exist_ok=True)
    return tempfile.TemporaryDirectory(prefix="broker-", dir=parent, ignore_cleanup_errors=True)


def _with_process(state: State, pid: int) -> State:
    try:
        created = psutil.Process(pid).create_time()
    except psutil.NoSuchProcess:
        created = None  # it ended already: waiting for it will tell why
    return replace(state, pid=pid, created=created)


def _first_that_binds(node: Node, start_once: Callable[[Launch], State]) -> State:
    """Start; when another program took a chosen port meanwhile, choose again."""
    for attempt in range(1, STARTS + 1):
        launch = node.prepare()
        try:
            return start_once(launch)
        except ClusterError:
            taken = not (ports.is_free(launch.state.port) and ports.is_free(launch.state.controller_port))
            if node.port is not None or not taken or attempt == STARTS:
                raise
    raise AssertionError("unreachable")


@dataclass(frozen=True)
class Status:
    """A home's broker as it is now; port, pid and version are None when none runs. last_port: that it had."""

    home: Path
    running: bool
    port: int | None = None
    pid: int | None = None
    version: str | None = None
    owned: bool = False
    secured: bool = False
    host: str = ""
    last_port: int | None = None

    @property
    def bootstrap_servers(self) -> str | None:
        """The address for Kafka clients: on this machine, or as others know it."""
        return f"{self.host or 'localhost'}:{self.port}" if self.running else None


def status(home: Path | None = None) -> Status:
    """Whether the broker of a home (default: zads_home()) runs, owned or detached, and where."""
    home = home or zads_home()
    state = Folder.below(home).read()
    if state is None or state.process() is None:
        return Status(home, running=False, last_port=state.port if state and not state.owned else None)
    secured = state.internal_port is not None
    return Status(home, True, state.port, state.pid, state.version, state.owned, secured, state.host)


def start_detached(
    home: Path | None = None,
    port: int | None = None,
    java: str | None = None,
    *,
    settings: Mapping[str, str] | None = None,
    secured: Secured | None = None,
    say: Say = to_stderr,
) -> Status:
    """Start the broker of a home so that it outlives this process; if it runs already, return its status.

    Parameters
    ----------
    home
        Folder of the broker's data and state; None: `zads_home()`.
    port
        Port to listen on; None: the last one, the default, or a free one.
    java
        A `java` program or a Java home; None: the one of the installation.
    settings
        Lines of server.properties to replace or add.
    secured
        TLS, users with passwords, nothing allowed by default; None: as it was at the last start.
    say
        Called with messages for people.

    Raises
    ------
    ClusterError
        When it cannot start, or runs already on another port than `port`, or not secured.
    """
    home = home or zads_home()
    node = Node(Folder.below(home), port, DEFAULT_PORT, java, dict(settings or {}), say, secured=secured)
    with node.folder.starting():
        now = status(home)
        if now.running:
            if port not in (None, now.port) or (secured is not None and not now.secured):
                node.refuse_if_running()
            return now
        state = _first_that_binds(node, lambda launch: _start_alone(node, launch))
        if node.is_secured:
            _write_operator(home, node.operator(state))
    return status(home)


def _write_operator(home: Path, settings: Mapping[str, str]) -> None:
    """The operator's profile: `--as operator` on this machine."""
    from cluster.kafka.security import write_profile

    write_profile(profiles(home) / "operator.ini", settings)


def _start_alone(node: Node, launch: Launch) -> State:
    with node.folder.output.open("ab") as output:
        jvm = subprocess.Popen(
            launch.command,
            env=launch.environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    state = _with_process(launch.state, jvm.pid)
    node.folder.write(state)
    try:
        node.wait_until_ready(state, lambda: jvm.poll() is None)
    except BaseException:
        jvm.kill()
        jvm.wait()
        raise
    jvm.returncode = 0  # it outlives this process: no warning that it still runs
    return state


def stop_detached(home: Path | None = None) -> bool:
    """Stop a home's broker; whether there was one."""
    node = Node(Folder.below(home or zads_home()))
    if not node.folder.root.exists():
        return False
    with node.folder.starting():
        state = node.folder.read()
        process = state.process() if state else None
        if process is None:
            return False
        process.terminate()
        try:
            process.wait(STOPPED_WITHIN_S)
        except psutil.TimeoutExpired:
            process.kill()
            process.wait()
        with contextlib.suppress(ClusterError):  # the Java that started it need not be there any more
            node.adopt_archive()
    return True


def log_tail(home: Path | None = None, n: int = 50) -> list[str]:
    """The last `n` lines of a home's broker log; empty when there is none."""
    return _last_lines(Folder.below(home or zads_home()), n)


def _last_lines(folder: Folder, n: int) -> list[str]:
    if not folder.log.exists():
        return []
    with folder.log.open(errors="replace") as log:
        return [line.rstrip("\n") for line in deque(log, maxlen=n)]
