"""Faults of the machine and of Kafka are one sentence on the command line; a bug keeps its traceback."""

import errno
import signal
import subprocess
import sys

import pytest
from confluent_kafka import KafkaError, KafkaException

from commands import _sentence
from schemas.errors import ZadsError
from tests.pipeline.night import REPOSITORY


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "/data/a"), "/data/a: the disk is full"),
        (PermissionError(errno.EACCES, "Permission denied", "/data"), "/data: no right to use it"),
        (KafkaException(KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED)), "TOPIC_AUTHORIZATION_FAILED"),
        (ZadsError("no such night"), "no such night"),
    ],
)
def test_a_fault_of_the_environment_is_a_sentence(error: Exception, said: str) -> None:
    assert said in _sentence(error)


def test_a_bug_is_none() -> None:
    assert _sentence(TypeError("argument 4 must be str, not None")) == ""


def test_what_a_c_library_ends_says_where_it_was() -> None:
    code = "import commands, os\ndef here(): os.abort()\ncommands.application = lambda: here\ncommands.main()"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    assert done.returncode == -signal.SIGABRT
    assert "Fatal Python error: Aborted" in done.stderr
    assert " in here" in done.stderr
