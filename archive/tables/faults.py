"""What an error of an object store means, from its words: deltalake and pyarrow give no codes.

| what it says                                      | it means                                      |
|---------------------------------------------------|-----------------------------------------------|
| no connection, no answer in time, 408, 429, 5xx   | StoreAway: nobody's fault, try again          |
| 401, 403, an access key or a signature            | StoreRefused: the credentials, or a right     |
| no such bucket                                    | StoreRefused: the address                     |
| the address from which a virtual machine of Amazon | StoreRefused: there are no credentials       |
| gets its credentials                              |                                               |
| anything else                                     | the error itself: a folder's, or a bug        |

Sources: the error codes of https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html, as Arrow's
`s3_internal.h` and the crate `object_store` print them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import pyarrow as pa
from deltalake.exceptions import DeltaError

from schemas.errors import Unreachable, ZadsError


class StoreAway(Unreachable):
    """The object store of an archive does not answer now."""


class StoreRefused(ZadsError):
    """The object store of an archive answers, and does not let us in: its address or our credentials."""


_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
_STATUS = re.compile(r"\b([345]\d\d) [A-Z][a-z]+")
_CODE = re.compile(r"<Code>(\w+)</Code>|AWS Error (\w+)")
_NO_CREDENTIALS = ("169.254.169.254", "metadata.google.internal", "CredentialsNotLoaded", "no credentials")
_NO_BUCKET = {"NoSuchBucket", "NO_SUCH_BUCKET"}
_NOT_LET_IN = {
    *("AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "RequestTimeTooSkewed"),
    *("ACCESS_DENIED", "INVALID_ACCESS_KEY_ID", "SIGNATURE_DOES_NOT_MATCH", "REQUEST_TIME_TOO_SKEWED"),
    *("INVALID_CLIENT_TOKEN_ID", "MISSING_AUTHENTICATION_TOKEN", "UNRECOGNIZED_CLIENT"),
}
_AWAY = {
    *("InternalError", "ServiceUnavailable", "SlowDown", "RequestTimeout"),
    *("NETWORK_CONNECTION", "INTERNAL_FAILURE", "SERVICE_UNAVAILABLE", "SLOW_DOWN", "REQUEST_TIMEOUT"),
    *("THROTTLING",),
}
_NO_ANSWER = re.compile(r"error sending request|connection|timed out|dns error", re.IGNORECASE)


def store_fault(error: Exception, address: str = "") -> StoreAway | StoreRefused | None:
    """What an exception of deltalake or pyarrow says of an object store.

    Parameters
    ----------
    error
        The exception.
    address
        Address of the archive, for the sentence; "" where it is not known.

    Returns
    -------
    StoreAway | StoreRefused | None
        None when it says nothing of one.
    """
    if not isinstance(error, OSError | pa.ArrowException | DeltaError):
        return None
    if isinstance(error, OSError) and error.errno is not None:
        return None  # a folder's
    text, place = _COLOURS.sub("", str(error)), address or "the object store"
    if any(words in text for words in _NO_CREDENTIALS):
        return StoreRefused(
            f"{place}: there are no credentials for it",
            hint="set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or what your store needs",
        )
    codes = {one or other for one, other in _CODE.findall(text)}
    status = {int(number) for number in _STATUS.findall(text)}
    if codes & _NO_BUCKET:
        return StoreRefused(f"{place}: there is no such bucket", hint="make it first, or mend the address")
    if codes & _NOT_LET_IN or (status & {401, 403} and not codes & _AWAY):
        named = ", ".join(sorted(codes)) or ", ".join(map(str, sorted(status)))
        return StoreRefused(
            f"{place}: the store does not let us in ({named})",
            hint="its access key, its secret, the rights of that key, or this machine's clock",
        )
    if codes & _AWAY or status & {408, 429} or any(number >= 500 for number in status):
        return StoreAway(f"{place}: the store does not answer as it should ({_last(text)})")
    if "://" in text and _NO_ANSWER.search(text):
        return StoreAway(f"{place}: the store does not answer ({_last(text)})")
    return None


@contextmanager
def store_faults(address: str = "") -> Iterator[None]:
    """Within it, what an object store says is raised as StoreAway or StoreRefused."""
    try:
        yield
    except Exception as error:
        told = store_fault(error, address)
        if told is None:
            raise
        raise told from None


def _last(text: str) -> str:
    """The last line that is words, which is where these libraries put the cause."""
    lines = [line.strip(" ↳\t") for line in text.splitlines() if line.strip() and "<" not in line]
    said = lines[-1] if lines else text
    return re.sub(r"^.*(AWS Error |HTTP error: )", "", said)[:160]
