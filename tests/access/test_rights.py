"""Who may do what on a secured broker: a table written by hand, each cell tried; users that come and go."""

from __future__ import annotations

import uuid

import pytest
from confluent_kafka import KafkaError
from confluent_kafka.admin import AdminClient, ConfigResource

from cluster.kafka.broker import Broker
from pipeline.access.users import (
    UserError,
    add_user,
    change_role,
    enforce_rights,
    read_users,
    remove_user,
    rotate_password,
)
from pipeline.broker.client import BrokerError, topic_names
from pipeline.broker.topics import ensure_topics
from tests.access.seat import Seat
from tests.access.world import client

ROLES = ("operator", "pipeline", "broker", "collaboration-broker", "collaboration", "public")
# +: allowed, -: refused. One column a role, in the order above.
TABLE = """
read      ztf_20260101_programid1        + + + + - -
read      ztf_20260101_programid2        + + - + - -
read      ztf_20260101_programid3        + + - + - -
read      lsst-alerts-v1                 + + + + - -
read      winter_20260101                + + - + - -
read      channel.open                   + + + + + +
read      collab.shared                  + + - + + -
read      channel.olga.own               + + - - - -
read      collab.olga.own                + + - - - -
read      zads.dead-letters              + + - - - -
read      zads.gaps                      + + - - - -
read      zads.applied                   + + - - - -
read      zads.ledger                    + + - - - -
read      zads.once                      + + - - - -
read      zads.exposures                 + + - - - -
read      zads.ranked                    + + - - - -
read      zads.channels                  + + - - - -
read      zads.users                     + - - - - -
read      rehearsal                      + - - - - -
write     ztf_20260101_programid1        + + - - - -
write     ztf_20260101_programid2        + + - - - -
write     lsst-alerts-v1                 + + - - - -
write     channel.open                   + + - - - -
write     collab.shared                  + + - - - -
write     zads.dead-letters              + + - - - -
write     zads.gaps                      + + - - - -
write     zads.applied                   + + - - - -
write     zads.ledger                    + + - - - -
write     zads.once                      + + - - - -
write     zads.exposures                 + + - - - -
write     zads.ranked                    + + - - - -
write     zads.channels                  + - - - - -
write     zads.users                     + - - - - -
write     rehearsal                      + - - - - -
write     zads.requests.USER             + - + + + +
write     zads.requests.OTHER            + - - - - -
read      zads.requests.USER             + - - - - -
read      zads.answers.USER              + - + + + +
read      zads.answers.OTHER             + - - - - -
write     zads.answers.USER              + - - - - -
create    ztf_20260102_programid1        + + - - - -
create    lsst-alerts-v2                 + + - - - -
create    channel.new                    + + - - - -
create    collab.new                     + + - - - -
create    zads.new                       + - - - - -
create    anything                       + - - - - -
delete    channel.open                   + - - - - -
configure channel.open                   + - - - - -
configure zads.channels                  + - - - - -
join      zads                           + + - - - -
join      zads-archive                   + + - - - -
join      zads-exposures                 + + - - - -
join      anybody                        + - - - - -
join      USER                           + - + + + +
join      USER.tonight                   + - + + + +
join      USERx                          + - - - - -
join      OTHER                          + - - - - -
join      OTHER.tonight                  + - - - - -
transact  zads/ztf_20260101_programid1/0 + + - - - -
transact  zads-backfill/open             + + - - - -
transact  zads-exposures                 + + - - - -
transact  zads-ranked/best               + + - - - -
transact  zads.channels                  + - - - - -
transact  USER                           + - - - - -
grant     none                           + - - - - -
password  nobody-user                    + - - - - -
"""
OTHER = "somebody-user"
TOPICS = [
    "ztf_20260101_programid1",
    "ztf_20260101_programid2",
    "ztf_20260101_programid3",
    "lsst-alerts-v1",
    "winter_20260101",
    "channel.open",
    "collab.shared",
    "channel.olga.own",
    "collab.olga.own",
    "rehearsal",
]


@pytest.fixture(scope="module")
def passwords(secured: Broker) -> dict[str, str]:
    """A user of each role, called like it; and the topics of the table."""
    kafka = secured.operator
    made = {role: add_user(f"{role}-user", role, **_as(secured)) for role in ROLES}
    add_user(OTHER, "public", **_as(secured))
    ensure_topics(kafka["bootstrap.servers"], TOPICS, partitions=1, **kafka)
    enforce_rights(kafka["bootstrap.servers"], **kafka)
    return made


def _as(secured: Broker) -> dict[str, str]:
    """Arguments for what an operator does."""
    return {"bootstrap": secured.operator["bootstrap.servers"], "by": "test", **secured.operator}


@pytest.mark.parametrize("role", ROLES)
def test_each_cell_of_the_table(secured: Broker, passwords: dict[str, str], role: str) -> None:
    seat = Seat(client(secured, f"{role}-user", passwords[role]))
    wrong = []
    for line in TABLE.strip().splitlines():
        operation, name, *cells = line.split()
        expected = cells[ROLES.index(role)] == "+"
        called = name.replace("USER", f"{role}-user").replace("OTHER", OTHER)
        if seat.may(operation, called) != expected:
            wrong.append(f"{operation} {called}: {'refused' if expected else 'allowed'}")
    seat.close()
    assert not wrong
    assert len(TABLE.strip().splitlines()) > 50


def test_nobody_comes_in_without_a_password_or_with_anothers(secured: Broker) -> None:
    name = f"nan-{uuid.uuid4().hex[:8]}"
    add_user(name, "public", **_as(secured))
    servers = secured.bootstrap_servers
    with pytest.raises(BrokerError, match="does not let us in"):
        topic_names(servers, **client(secured, name, "guessed"))
    untrusted = {**client(secured, name, "x"), "ssl.ca.pem": "", "ssl.ca.location": "probe"}
    no_certificate = {"security.protocol": "SSL", "ssl.ca.pem": secured.ca}
    operators = secured.operator["bootstrap.servers"]
    for address, settings in [(servers, {}), (servers, untrusted), (operators, no_certificate)]:
        with pytest.raises(BrokerError, match="secured one and we have no profile that fits"):
            topic_names(address, timeout=2, **settings)


def test_a_name_is_used_once_and_some_never(secured: Broker) -> None:
    name = f"una-{uuid.uuid4().hex[:8]}"
    add_user(name, "public", **_as(secured))
    with pytest.raises(UserError, match=f"a user {name} is there"):
        add_user(name, "public", **_as(secured))
    remove_user(name, **_as(secured))
    with pytest.raises(UserError, match="not used again"):
        add_user(name, "operator", **_as(secured))
    for bad, why in [
        ("zads", "reserved"),
        ("operator", "reserved"),
        ("Ann", "small letters"),
        ("a.b", "small"),
    ]:
        with pytest.raises(UserError, match=why):
            add_user(bad, "public", **_as(secured))
    with pytest.raises(UserError, match="no role publik; did you mean 'public'"):
        add_user("ok", "publik", **_as(secured))  # type: ignore[arg-type]


def test_a_removed_user_is_out_also_where_a_connection_is_open(
    secured: Broker, passwords: dict[str, str]
) -> None:
    """The session of a connection is at most 10 s long; then its user must be known again."""
    name = f"rob-{uuid.uuid4().hex[:8]}"
    password = add_user(name, "broker", **_as(secured))
    errors: list[KafkaError] = []
    seat = Seat({**client(secured, name, password), "error_cb": errors.append})  # type: ignore[dict-item]
    assert seat.may("read", "ztf_20260101_programid1")
    assert seat.may("read", "channel.open")
    remove_user(name, **_as(secured))
    assert not seat.may("read", "ztf_20260101_programid1"), "the rights go at once"
    while KafkaError._AUTHENTICATION not in {error.code() for error in errors}:
        seat.consumer.poll(0.2)
    seat.close()
    assert _broker_setting(secured, "connections.max.reauth.ms") <= 10_000
    assert read_users(secured.operator["bootstrap.servers"], **secured.operator)[name].removed


def test_a_rotated_password_works_and_the_old_does_not(secured: Broker, passwords: dict[str, str]) -> None:
    name = f"ria-{uuid.uuid4().hex[:8]}"
    old = add_user(name, "public", **_as(secured))
    servers = secured.bootstrap_servers
    assert "channel.open" in topic_names(servers, **client(secured, name, old))
    kafka = secured.operator
    new = rotate_password(name, kafka["bootstrap.servers"], **kafka)
    assert "channel.open" in topic_names(servers, **client(secured, name, new))
    with pytest.raises(BrokerError, match="wrong name or password"):
        topic_names(servers, **client(secured, name, old))


def test_a_role_changes_and_what_was_given_by_hand_goes(secured: Broker, passwords: dict[str, str]) -> None:
    name = f"cat-{uuid.uuid4().hex[:8]}"
    seat = Seat(client(secured, name, add_user(name, "public", **_as(secured))))
    assert not seat.may("read", "collab.shared")
    change_role(name, "collaboration", **_as(secured))
    assert seat.may("read", "collab.shared")
    change_role(name, "public", **_as(secured))
    assert not seat.may("read", "collab.shared")
    seat.close()


def _broker_setting(secured: Broker, name: str) -> int:
    resource = ConfigResource(ConfigResource.Type.BROKER, "1")
    admin = AdminClient(secured.operator)
    found = admin.describe_configs([resource])[resource].result()
    return int(found[name].value)
