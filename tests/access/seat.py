"""A seat at a secured broker: what one user can do there, tried with confluent-kafka alone."""

from __future__ import annotations

import time
from collections.abc import Mapping

from confluent_kafka import (
    Consumer,
    ConsumerGroupTopicPartitions,
    KafkaError,
    KafkaException,
    Producer,
    TopicPartition,
)
from confluent_kafka.admin import (
    AclBinding,
    AclOperation,
    AclPermissionType,
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewTopic,
    ResourcePatternType,
    ResourceType,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)

REFUSED = {
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.GROUP_AUTHORIZATION_FAILED,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED,
    KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
}
_SECONDS = 30.0


class Seat:
    """A try is True for what is allowed and False for what the authorizer refuses; anything else raises."""

    def __init__(self, settings: Mapping[str, str]) -> None:
        self.settings = {**settings, "log_level": 0}
        self.admin = AdminClient(self.settings)
        reading = {"group.id": "seat", "enable.auto.commit": False, "enable.partition.eof": True}
        reading |= {"fetch.wait.max.ms": 10, "fetch.queue.backoff.ms": 10}  # an empty topic says so at once
        self.consumer = Consumer({**self.settings, **reading})
        self.producer = Producer(self.settings)

    def may(self, operation: str, name: str) -> bool:
        """Try one operation on what is called so."""
        try:
            getattr(self, operation)(name)
        except KafkaException as error:
            if error.args[0].code() in REFUSED:
                return False
            raise
        return True

    def read(self, topic: str) -> None:
        # librdkafka waits in silence for a topic that the broker does not show it.
        if error := self.consumer.list_topics(topic, _SECONDS).topics[topic].error:
            raise KafkaException(error)
        self.consumer.assign([TopicPartition(topic, 0, 0)])
        deadline = time.monotonic() + _SECONDS
        while time.monotonic() < deadline:
            message = self.consumer.poll(1)
            if message is None:
                continue
            code = message.error().code() if message.error() else None
            if code in (None, KafkaError._PARTITION_EOF):
                return
            if code != KafkaError.GROUP_AUTHORIZATION_FAILED:  # librdkafka looks for a coordinator unasked
                raise KafkaException(message.error())
        raise AssertionError(f"neither read nor refused: {topic}")

    def write(self, topic: str) -> None:
        failed: list[KafkaError] = []
        self.producer.produce(
            topic, b"x", b"key", on_delivery=lambda error, _: error and failed.append(error)
        )
        assert self.producer.flush(_SECONDS) == 0
        if failed:
            raise KafkaException(failed[0])

    def create(self, topic: str) -> None:
        self.admin.create_topics([NewTopic(topic, 1)], validate_only=True)[topic].result()

    def delete(self, topic: str) -> None:
        nothing = TopicPartition(topic, 0, 0)
        self.admin.delete_records([nothing])[nothing].result()

    def configure(self, topic: str) -> None:
        entry = ConfigEntry("retention.ms", "1", incremental_operation=AlterConfigOpType.SET)
        resource = ConfigResource(ConfigResource.Type.TOPIC, topic, incremental_configs=[entry])
        answers = self.admin.incremental_alter_configs([resource], validate_only=True)
        answers[resource].result()

    def join(self, group: str) -> None:
        commit = ConsumerGroupTopicPartitions(group, [TopicPartition("channel.open", 0, 0)])
        answers = self.admin.alter_consumer_group_offsets([commit], request_timeout=_SECONDS)
        (place,) = answers[group].result().topic_partitions
        if place.error:
            raise KafkaException(place.error)

    def transact(self, name: str) -> None:
        Producer({**self.settings, "transactional.id": name}).init_transactions(_SECONDS)

    def grant(self, topic: str) -> None:
        more = AclBinding(
            ResourceType.TOPIC,
            topic,
            ResourcePatternType.LITERAL,
            "User:nobody-user",
            "*",
            AclOperation.READ,
            AclPermissionType.ALLOW,
        )
        self.admin.create_acls([more])[more].result()

    def password(self, user: str) -> None:
        # Not describe_user_scram_credentials: when that is refused, librdkafka 2.16 ends the process.
        info = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 4096)
        change = UserScramCredentialUpsertion(user, info, b"known to me")
        self.admin.alter_user_scram_credentials([change])[user].result()

    def close(self) -> None:
        self.consumer.close()
