"""Passwords of users as the broker keeps them (SCRAM-SHA-512): salted hashes, never the password itself."""

from __future__ import annotations

import secrets
from typing import Any

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import (
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialAlteration,
    UserScramCredentialDeletion,
    UserScramCredentialUpsertion,
)

from pipeline.broker.client import BrokerError, admin_client, sentence

_ITERATIONS = 8192
_KAFKA_SECONDS = 20.0


def new_password(name: str, bootstrap: str, **kafka: Any) -> str:
    """Give a user a password by chance, in place of any before, and return it.

    Parameters
    ----------
    name
        Of the user.
    bootstrap, kafka
        The broker, and librdkafka's own keys.

    Raises
    ------
    BrokerError
        When the broker refuses.
    """
    password = secrets.token_urlsafe(32)
    info = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, _ITERATIONS)
    _alter(UserScramCredentialUpsertion(name, info, password.encode()), bootstrap, kafka)
    return password


def delete_password(name: str, bootstrap: str, **kafka: Any) -> None:
    """Take a user's password away, if there is one.

    Parameters
    ----------
    name
        Of the user.
    bootstrap, kafka
        The broker, and librdkafka's own keys.

    Raises
    ------
    BrokerError
        When the broker refuses.
    """
    _alter(UserScramCredentialDeletion(name, ScramMechanism.SCRAM_SHA_512), bootstrap, kafka)


def _alter(change: UserScramCredentialAlteration, bootstrap: str, kafka: dict[str, Any]) -> None:
    admin = admin_client(bootstrap, **kafka)
    (answer,) = admin.alter_user_scram_credentials([change], request_timeout=_KAFKA_SECONDS).values()
    try:
        answer.result()
    except KafkaException as error:
        if error.args[0].code() != KafkaError.RESOURCE_NOT_FOUND:  # a removal that is done again
            raise BrokerError(f"the password of {change.user}: {sentence(error.args[0])}") from None
