"""`python -m pipeline.broker.asking`: what a broker says of a group, asked by a process of its own.

A question [settings, group, seconds] comes in as JSON, an answer goes out as JSON: {"state", "members"}, or
{"code", "words"} of an error. See `pipeline.broker.members.described`.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient


def answer(settings: dict[str, Any], group: str, seconds: float) -> dict[str, Any]:
    """What is to be printed.

    Parameters
    ----------
    settings
        Of a Kafka client.
    group
        The group.
    seconds
        To wait for the broker.
    """
    client = AdminClient(settings)
    try:
        told = client.describe_consumer_groups([group], request_timeout=seconds)[group].result()
    except KafkaException as error:
        return {"code": error.args[0].code(), "words": error.args[0].str()}
    members = [
        {
            "id": member.member_id,
            "instance": member.group_instance_id or "",
            "places": [[place.topic, place.partition] for place in member.assignment.topic_partitions],
        }
        for member in told.members
    ]
    return {"state": told.state.name, "members": members}


if __name__ == "__main__":
    print(json.dumps(answer(*json.load(sys.stdin))), flush=True)
    os._exit(0)  # freeing the client is what may abort
