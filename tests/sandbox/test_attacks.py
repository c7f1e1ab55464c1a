"""Strangers' code that attacks the machine, the pipeline and its neighbours: each attack fails, as root too.

An attack that succeeds returns; one that fails raises where it stands, or its process is ended. After each
the next filter is judged as if nothing had been.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import mmap
import os
import platform
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from filters.sandbox.batch import Shelf
from filters.sandbox.errors import Ended, Raised
from filters.sandbox.keeper import Sandbox
from tests.sandbox.conftest import SECRET, WELL, Judge

CALL = "import ctypes\nlibc = ctypes.CDLL(None, use_errno=True)\n"
NUMBERS = {
    "x86_64": {"openat": 257, "ptrace": 101, "bpf": 321, "unshare": 272, "keyctl": 250, "tgkill": 234},
    "aarch64": {"openat": 56, "ptrace": 117, "bpf": 280, "unshare": 97, "keyctl": 219, "tgkill": 131},
}.get(platform.machine(), {})
SAME = {"io_uring_setup": 425, "pidfd_open": 434, "clone3": 435, "process_madvise": 440, "memfd_secret": 447}


def call(number: int, *arguments: object) -> str:
    """Code that makes a system call by its number, below Python."""
    given = ", ".join(f"ctypes.c_long({one})" if isinstance(one, int) else repr(one) for one in arguments)
    return (
        f"{CALL}libc.syscall.restype = ctypes.c_long\n"
        f"if libc.syscall(ctypes.c_long({number}), {given}) < 0:\n"
        "    raise PermissionError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))\n"
    )


DENIED = {
    "read a file": "open('/etc/passwd').read()",
    "read its own program": "open(sys.executable, 'rb').read(1)",
    "write a file": "open('/tmp/zads-mallory', 'w').write('x')",
    "list a folder": "os.listdir('/')",
    "look at a file": "os.stat('/etc/passwd')",
    "remove a file": "os.unlink('/tmp/zads-victim')",
    "read the environment of its parent": "open(f'/proc/{os.getppid()}/environ').read()",
    "read its own environment": "open('/proc/self/environ').read()",
    "read memory of others": "open('/proc/1/mem', 'rb').read(1)",
    "list processes": "os.listdir('/proc')",
    "a TCP socket": "import socket\nsocket.socket().connect(('127.0.0.1', 9092))",
    "a UDP socket": "import socket\nsocket.socket(socket.AF_INET, socket.SOCK_DGRAM)",
    "a Unix socket": "import socket\nsocket.socket(socket.AF_UNIX)",
    "a pair of sockets": "import socket\nsocket.socketpair()",
    "fork": "os.fork()",
    "a program": "import subprocess\nsubprocess.run(['/bin/true'])",
    "become a program": "os.execv('/bin/true', ['true'])",
    "spawn": "os.posix_spawn('/bin/true', ['true'], {})",
    "signal its parent": "os.kill(os.getppid(), 9)",
    "signal everybody": "os.kill(-1, 9)",
    "signal by the owner of a file": "import fcntl\nfcntl.fcntl(3, fcntl.F_SETOWN, os.getppid())",
    "signals on input": "import fcntl\nfcntl.fcntl(3, fcntl.F_SETFL, os.O_ASYNC)",
    "become root": "os.setuid(0)",
    "limits of its parent": "import resource\nresource.prlimit(os.getppid(), resource.RLIMIT_CPU, (1, 1))",
    "change its priority": "os.nice(-5)",
    "a memory file": "os.memfd_create('x')",
    "a pipe": "os.pipe()",
    "another root": "os.chroot('/tmp')",
    "another folder": "os.chdir('/tmp')",
    **{name: f"{call(number, 0, 0, 0)}" for name, number in SAME.items()},
    **{name: f"{call(number, 0, 0, 0)}" for name, number in NUMBERS.items() if name != "openat"},
    **({"open below Python": call(NUMBERS["openat"], -100, b"/etc/passwd", 0)} if NUMBERS else {}),
}


@pytest.mark.parametrize("attack", DENIED)
def test_what_is_not_computing_is_refused(judge: Judge, attack: str) -> None:
    with pytest.raises(Raised, match=r"Permission ?Error|not permitted") as raised:
        judge(DENIED[attack] + "\nreturn {}")
    assert "theirs.py" in raised.value.traceback
    assert judge(WELL).cuts["real"].tolist() == [False, True]


OTHERS = {
    "higher limits": ("import resource\nresource.setrlimit(resource.RLIMIT_AS, (-1, -1))", "not allowed"),
    "a thread": ("import threading\nthreading.Thread(target=print).start()", "can't start new thread"),
    "a late import": ("import sqlite3", "sandbox has what"),
    "a late import of ours": ("import pipeline.access.users", "sandbox has what"),
    "a late import of the system": ("import importlib\nimportlib.import_module('wave')", "sandbox has what"),
    "leave": ("sys.exit(0)", "SystemExit"),
}


@pytest.mark.parametrize("attack", OTHERS)
def test_what_else_is_refused(judge: Judge, attack: str) -> None:
    body, words = OTHERS[attack]
    with pytest.raises(Raised, match=words):
        judge(body + "\nreturn {}")
    assert judge(WELL).cuts["real"].tolist() == [False, True]


ENDED = {
    "an endless loop": ("while True: pass", "took more than"),
    "an endless loop in C": ("sum(range(10**15))", "took more than"),
    "an endless expression": ("import re\nre.match('(a*)*b', 'a' * 60)", "took more than"),
    "a deaf loop": (
        "import signal\nfor s in range(1, 30):\n"
        "    try: signal.signal(s, signal.SIG_IGN)\n    except OSError: pass\n"
        "while True:\n    try:\n        while True: pass\n    except BaseException: pass",
        "took more than",
    ),
    "much memory at once": ("import numpy as np\nnp.ones(10**10)", "of memory"),
    "more and more memory": ("hoard = []\nwhile True: hoard.append(bytearray(10**7))", "of memory"),
    "end at once": ("os._exit(0)", "ended itself"),
    "crash": ("import ctypes\nctypes.string_at(1)", "ended itself"),
    "abort": ("os.abort()", "ended itself"),
    "a long answer": ("return {'x' * 10**7: alerts['rb'] > 0}", "parts"),
    "many answers": ("return {str(n): alerts['rb'] > 0 for n in range(1000)}", "parts"),
    "rubbish as an answer": ("os.write(3, b'x' * 10**6)", "answer"),
    "a long length as an answer": ("os.write(3, bytes([1]) + bytes([255] * 4))", "answer"),
    "an answer of too many alerts": ("os.write(3, bytes([1, 8, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0]))", "answer"),
    "no answer": ("os.close(3)\nwhile True: pass", "took|ended"),
}
if platform.machine() == "x86_64":
    ENDED["calls by their other numbers"] = (call(0x40000000 + 2, b"/etc/passwd", 0), "ended itself")


@pytest.mark.parametrize("attack", ENDED)
def test_who_uses_up_or_breaks_something_is_ended(judge: Judge, attack: str) -> None:
    body, words = ENDED[attack]
    with pytest.raises(Ended, match=words):
        judge(body + "\nreturn {}")
    assert judge(WELL).cuts["real"].tolist() == [False, True]


def test_who_loops_is_told_where(judge: Judge) -> None:
    """In Python and below it; whoever does not listen is not told."""
    for body in ("while True: pass", "sum(range(10**15))"):
        with pytest.raises(Ended) as raised:
            judge(f"x = 1\n{body}\nreturn {{}}", owner="looper")
        assert raised.value.traceback == (
            'Traceback (most recent call last):\n  File "theirs.py", line 7 in f\n'
        )
    deaf = "import signal\nsignal.signal(signal.SIGUSR1, signal.SIG_IGN)\nos.write(3, b'x')\nwhile True: pass"
    with pytest.raises(Ended) as raised:
        judge(deaf, owner="deaf")
    assert raised.value.traceback == ""


def test_who_sleeps_is_ended_too(judge: Judge, strict: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """No processor time is used, so the wait itself is limited."""
    monkeypatch.setattr(strict, "_seconds", 0.05)
    with pytest.raises(Ended, match="took more than"):
        judge("import time\ntime.sleep(1000)", owner="sleeper")


def test_a_flood_of_output_reaches_nobody(judge: Judge, capfd: pytest.CaptureFixture[str]) -> None:
    flood = (
        "for n in range(100):\n"
        "    print('x' * 10**5)\n    sys.stderr.write('y' * 10**5)\n    os.write(1, b'z' * 10**5)\n"
    )
    assert judge(flood + WELL).cuts["real"].tolist() == [False, True]
    assert capfd.readouterr() == ("", "")


def test_what_is_raised_is_short_and_moves_no_cursor(judge: Judge) -> None:
    with pytest.raises(Raised) as raised:
        judge("raise ValueError('\\x1b[2J' + 'long' * 10**6)")
    assert "\x1b" not in str(raised.value) + raised.value.traceback
    assert len(str(raised.value)) < 1000
    assert len(raised.value.traceback) < 20_000


def test_the_environment_is_not_ours(judge: Judge) -> None:
    """Neither in Python nor where the C library keeps it."""
    assert os.environ["ZADS_TEST_SECRET"] == SECRET
    body = (
        f"{CALL}libc.getenv.restype = ctypes.c_char_p\n"
        "found = {**os.environ, 'C': str(libc.getenv(b'ZADS_TEST_SECRET'))}\n"
        "raise ValueError(' '.join(f'{k}={v}' for k, v in found.items()))"
    )
    with pytest.raises(Raised) as raised:
        judge(body)
    assert "C=None" in str(raised.value)
    assert "hunter2" not in raised.value.traceback
    assert "TEST_SECRET" not in raised.value.traceback


def test_a_pickle_is_not_opened(judge: Judge, tmp_path: Path) -> None:
    """Neither as a returned object nor as the bytes of an answer."""
    mark = tmp_path / "opened"
    bomb = f"import pickle\nclass Bomb:\n    def __reduce__(self): return os.mkdir, ({str(mark)!r},)\n"
    for attack in ("return Bomb()", "return {'a': Bomb()}", "os.write(3, pickle.dumps(Bomb()))\nreturn {}"):
        with pytest.raises((Raised, Ended)):
            judge(bomb + attack)
    assert not mark.exists()


PATCHES = (
    "import pandas as pd\npd.Series.__gt__ = pd.DataFrame.__getitem__ = lambda *a: 1 / 0\n",
    "import filters.cuts, filters.contract\nfilters.cuts.evaluate = lambda *a: {'mine': alerts['rb'] > -1}\n",
    "import numpy as np\nnp.packbits = lambda mask: np.zeros(0, 'u1')\n",
    "sys.modules['filters'].alert_filter = None\nsys.modules.clear()\n",
    "import filters.sandbox.inside.child as c\nc.serve.__globals__['opened'] = lambda file: 1 / 0\n",
    "import builtins\nbuiltins.len = lambda x: 7\n",
)


@pytest.mark.parametrize("patch", PATCHES)
def test_who_patches_pandas_or_zads_patches_their_own(judge: Judge, patch: str) -> None:
    """Another owner, and this process, go on as before; so does the same owner in a new process."""
    with contextlib.suppress(Raised, Ended):
        judge(patch + WELL, owner=f"patcher of {patch}")
    assert judge(WELL, owner="alice").cuts["real"].tolist() == [False, True]

    assert (pd.Series([1.0]) > 0).tolist() == [True]


def test_nobody_sees_anothers_alerts(judge: Judge) -> None:
    """Alice's were judged just before. Mallory finds the numbers in no object; there are the standard files,
    which lead nowhere, the socket, and Mallory's own batch."""
    strange = [123456.78125, 876543.21875]
    judge(WELL, owner="alice", rb=strange)
    body = (
        "import fcntl, gc\nimport numpy as np\n"
        "arrays = [o for o in gc.get_objects() if isinstance(o, np.ndarray) and o.dtype == float]\n"
        "found = [one for one in arrays if 123456.78125 in one]\n"
        "files = []\n"
        "for n in range(64):\n"
        "    try: files.append((n, fcntl.fcntl(n, fcntl.F_GETFD)))\n"
        "    except OSError: pass\n"
        "raise ValueError(f'{len(found)} {[n for n, _ in files]}')"
    )
    with pytest.raises(Raised, match=r"ValueError: 0 \[0, 1, 2, 3, 5\]"):
        judge(body)


def test_a_batch_cannot_be_changed(judge: Judge) -> None:
    """Neither the columns that a filter sees, nor the memory that they come in."""
    with pytest.raises(Raised, match="read-only"):
        judge("alerts['rb'].array.to_numpy()[0] = 5\nreturn {}")
    for attack, words in {
        "import mmap\nmmap.mmap(5, 4096)": "Permission",
        "import mmap\nmmap.mmap(5, 4096, prot=mmap.PROT_WRITE)": "Permission",
        "import fcntl\nfcntl.fcntl(5, fcntl.F_ADD_SEALS, 0)": "Permission",
        "os.write(5, b'x' * 1000)": "too large|Permission",
        "os.ftruncate(5, 0)": "Permission",
    }.items():
        with pytest.raises(Raised, match=words):
            judge(attack + "\nreturn {}", owner="writer")
    shelf = Shelf(4096)
    for seal in (fcntl.F_SEAL_SHRINK, fcntl.F_SEAL_GROW, 0x10, fcntl.F_SEAL_SEAL):
        assert fcntl.fcntl(shelf.file, fcntl.F_GET_SEALS) & seal
    reader = mmap.mmap(shelf.file, 4096, prot=mmap.PROT_READ)
    libc = ctypes.CDLL(None, use_errno=True)
    place = np.frombuffer(reader, np.uint8).ctypes.data
    assert libc.mprotect(ctypes.c_void_p(place), 4096, mmap.PROT_READ | mmap.PROT_WRITE) < 0
    shelf.close()
