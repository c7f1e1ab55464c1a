"""What an object store's errors mean. The texts are those that deltalake 1.6 and pyarrow 26 gave, measured
against SeaweedFS 4.48 (tests/soak/test_object_store.py makes them again)."""

from __future__ import annotations

import errno
import sys

import pytest
from deltalake.exceptions import DeltaError, TableNotFoundError

from archive.tables.faults import StoreAway, StoreRefused, store_fault, store_faults
from archive.tables.store import is_table
from commands import _sentence
from schemas.errors import Unreachable

_GET = "Error performing GET http://127.0.0.1:18444/alerts/t/_delta_log/_last_checkpoint in 2.5s"
_WRITE = "When initiating multiple part upload for key 'x' in bucket 'alerts': AWS Error "
_STATUS = "Server returned non-2xx status code"

AWAY = [
    OSError(
        f"Kernel error -> Generic S3 error\n \x1b[31m↳\x1b[0m {_GET}, after 10 retries, max_retries\n"
        " \x1b[31m↳\x1b[0m 10, retry_timeout\n  \x1b[31m↳\x1b[0m 180s  - HTTP error\n"
        " ↳ error sending request\n  ↳ client error (Connect)\n   ↳ tcp connect error\n"
        "    ↳ Connection refused (os error 111)\n"
    ),
    OSError(f"Kernel error -> Generic S3 error\n ↳ {_GET}\n ↳ error sending request\n ↳ dns error\n"),
    OSError(f"Generic S3 error\n ↳ {_GET} - {_STATUS}\n ↳ 503 Service Unavailable\n"),
    OSError(
        f"Generic S3 error\n ↳ {_GET} - {_STATUS}\n ↳ 500 Internal\n<Error><Code>InternalError</Code></Error>"
    ),
    OSError(f"Generic S3 error\n ↳ {_GET} - {_STATUS}\n ↳ 429 Too Many Requests\n"),
    OSError(
        _WRITE + "NETWORK_CONNECTION during CreateMultipartUpload operation: curlCode: 7, Could not connect"
    ),
    OSError(_WRITE + "SLOW_DOWN during PutObject operation: Please reduce your request rate"),
    OSError(_WRITE + "INTERNAL_FAILURE during PutObject operation: Internal Error"),
    DeltaError(
        "Failed to parse parquet: External: Generic S3 error: Error performing PUT http://127.0.0.1:18444/alerts/"
        "t/part-0.parquet in 2.4s, after 10 retries, max_retries: 10, retry_timeout: 180s  - HTTP error: "
        "error sending request"
    ),
]
REFUSED = [
    OSError(
        f"The operation lacked the necessary privileges for path t\n ↳ {_GET} - {_STATUS}\n ↳ 403 Forbidden\n"
        "  ↳ <Error><Code>SignatureDoesNotMatch</Code><Message>The request signature</Message></Error>"
    ),
    OSError(f"Generic GCS error\n ↳ {_GET} - {_STATUS}\n ↳ 401 Unauthorized\n"),
    OSError(
        _WRITE
        + "INVALID_ACCESS_KEY_ID during CreateMultipartUpload operation: The access key ID you provided"
    ),
    OSError(_WRITE + "ACCESS_DENIED during PutObject operation: Access Denied"),
    OSError(
        f"Generic S3 error\n ↳ {_GET} - {_STATUS}\n ↳ 404 Not Found\n<Error><Code>NoSuchBucket</Code></Error>"
    ),
    OSError(_WRITE + "NO_SUCH_BUCKET during PutObject operation: The specified bucket does not exist"),
    OSError(
        "Kernel error -> Generic S3 error\n ↳ Error performing PUT http://169.254.169.254/latest/api/token "
        f"in 1.4ms - {_STATUS}\n ↳ 403 Forbidden\n"
    ),
]
NEITHER = [
    OSError(errno.ENOSPC, "No space left on device", "/archive/ztf/a.parquet"),
    PermissionError(errno.EACCES, "Permission denied", "/archive"),
    ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"),  # a socket's of our own
    TableNotFoundError("Generic delta kernel error: No files in log segment"),
    OSError("Parquet magic bytes not found in footer"),
    ValueError("AWS Error SLOW_DOWN"),  # not one of theirs
]


@pytest.mark.parametrize("error", AWAY, ids=str)
def test_away(error: Exception) -> None:
    told = store_fault(error, "s3://alerts/archive")
    assert isinstance(told, StoreAway)
    assert isinstance(told, Unreachable)
    assert_a_sentence(str(told))


@pytest.mark.parametrize("error", REFUSED, ids=str)
def test_refused(error: Exception) -> None:
    told = store_fault(error, "s3://alerts/archive")
    assert isinstance(told, StoreRefused)
    assert told.hint
    assert_a_sentence(str(told))


@pytest.mark.parametrize("error", NEITHER, ids=str)
def test_neither(error: Exception) -> None:
    assert store_fault(error, "s3://alerts/archive") is None
    with pytest.raises(type(error)) as same, store_faults("s3://alerts/archive"):
        raise error
    assert same.value is error


@pytest.mark.parametrize("error", [AWAY[0], REFUSED[0]], ids=["away", "refused"])
def test_on_the_command_line_too(error: Exception) -> None:
    assert "deltalake" in sys.modules
    assert_a_sentence(_sentence(error))


def test_a_real_store_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody listens on port 9 of this machine."""
    for name, value in {
        "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
        "AWS_ACCESS_KEY_ID": "a",
        "AWS_SECRET_ACCESS_KEY": "b",
        "AWS_ALLOW_HTTP": "true",
        "AWS_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(StoreAway, match="s3://alerts/ztf: the store does not answer"):
        is_table("s3://alerts/ztf")


def assert_a_sentence(said: str) -> None:
    assert said
    assert "\n" not in said
    assert "\x1b" not in said
    assert "<" not in said
    assert len(said) < 250
