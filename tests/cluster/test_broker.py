"""An owned broker: its data and port over restarts, and that nothing of it outlives its owner."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from confluent_kafka import KafkaError, Producer
from confluent_kafka.admin import AdminClient

from cluster.errors import ClusterError
from cluster.kafka.broker import Broker, status
from cluster.kafka.ports import free_port
from tests.cluster.helpers import consume, create_topic, eventually, is_alive, produce

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("end", [Broker.stop, Broker.kill], ids=["stopped", "killed"])
def test_data_and_port_stay_over_a_restart(own_broker: Broker, end) -> None:
    address = own_broker.bootstrap_servers
    values = [bytes([n]) * 100 for n in range(20)]
    create_topic(address, "kept")
    produce(address, "kept", values)
    end(own_broker)
    assert not own_broker.is_running()
    own_broker.start()
    assert own_broker.bootstrap_servers == address
    assert consume(address, "kept", len(values)) == values


def test_large_messages_and_transactions(broker: Broker) -> None:
    address = broker.bootstrap_servers
    create_topic(address, "large")
    settings = {"bootstrap.servers": address, "transactional.id": "large", "message.max.bytes": 16_000_000}
    producer = Producer(settings)
    producer.init_transactions(60)
    for value, commit in [(b"aborted", False), (b"x" * 8_000_000, True)]:
        producer.begin_transaction()
        producer.produce("large", value)
        producer.flush(60)
        if commit:
            producer.commit_transaction(60)
        else:
            producer.abort_transaction(60)
    assert [len(value) for value in consume(address, "large", 1)] == [8_000_000]


def test_an_unknown_topic_is_not_made(broker: Broker) -> None:
    client = AdminClient({"bootstrap.servers": broker.bootstrap_servers})
    asked_for = client.list_topics("misspelt", timeout=60).topics["misspelt"]
    assert asked_for.error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART
    assert "misspelt" not in client.list_topics(timeout=60).topics


def test_two_brokers_at_once(broker: Broker, own_broker: Broker) -> None:
    assert broker.port != own_broker.port
    create_topic(own_broker.bootstrap_servers, "only-here")
    with pytest.raises(ClusterError, match="runs already"):
        Broker(own_broker.home).start()


OWNER = """
import sys, time
from pathlib import Path
from cluster.kafka.broker import Broker
broker = Broker(Path(sys.argv[1]) if sys.argv[1:] else None).start()
print(broker.pid, broker.home, flush=True)
time.sleep(600)
"""


def start_owner(*arguments: str) -> tuple[subprocess.Popen[str], int, Path]:
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER, *arguments], stdout=subprocess.PIPE, text=True, cwd=REPOSITORY
    )
    assert owner.stdout is not None
    pid, home = owner.stdout.readline().split()
    return owner, int(pid), Path(home)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT], ids=lambda n: n.name)
def test_nothing_is_left_when_the_owner_dies(number: signal.Signals) -> None:
    owner, jvm, home = start_owner()
    assert is_alive(jvm)
    os.kill(owner.pid, number)
    owner.wait()
    assert eventually(lambda: not is_alive(jvm))
    assert eventually(lambda: not home.exists())


def test_a_killed_supervisor_takes_the_jvm_with_it(own_broker: Broker) -> None:
    jvm = own_broker.pid
    assert jvm is not None
    if sys.platform != "linux":
        pytest.skip("only Linux tells a process of its parent's death")
    psutil.Process(jvm).parent().kill()  # type: ignore[union-attr]
    assert eventually(lambda: not is_alive(jvm))
    own_broker.start()
    assert own_broker.pid != jvm


def test_a_forked_child_does_not_keep_the_broker(tmp_path: Path) -> None:
    """A child that holds a copy of the owner's pipe outlives the owner; the broker must not."""
    fork = OWNER.replace("print(", "import os\nif os.fork() == 0: time.sleep(30); os._exit(0)\nprint(")
    owner = subprocess.Popen([sys.executable, "-c", fork], stdout=subprocess.PIPE, text=True, cwd=REPOSITORY)
    assert owner.stdout is not None
    jvm = int(owner.stdout.readline().split()[0])
    children = psutil.Process(owner.pid).children()
    owner.kill()
    owner.wait()
    assert eventually(lambda: not is_alive(jvm))
    for child in children:
        if child.is_running() and child.cmdline()[-1:] == [fork]:
            child.kill()


def test_a_port_that_is_taken_is_named(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(ClusterError, match=rf"Port {port} is taken by .*process {os.getpid()}.*--port"):
            Broker(tmp_path, port=port).start()
    assert not status(tmp_path).running


def test_the_port_asked_for_is_used(tmp_path: Path) -> None:
    port = free_port()
    with Broker(tmp_path, port=port) as broker:
        assert broker.port == port
        assert status(tmp_path).owned
    assert (tmp_path / "kafka" / "data").is_dir(), "data of a named home stay"


def test_a_failing_start_shows_why(tmp_path: Path) -> None:
    broker = Broker(tmp_path, settings={"num.io.threads": "many"})
    with pytest.raises(ClusterError, match=r"many.*num\.io\.threads"):
        broker.start()
    assert not broker.is_running()
    with pytest.raises(ClusterError, match=r"ended while starting: .*no\.such\.Authorizer"):
        Broker(tmp_path, settings={"authorizer.class.name": "no.such.Authorizer"}).start()


def test_an_address_before_the_start_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ClusterError, match="not started"):
        _ = Broker(tmp_path).bootstrap_servers


def test_java_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ClusterError, match="no Java at '/no/such/java'"):
        Broker(tmp_path, java="/no/such/java").start()


def test_a_bare_path_is_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("JAVA_HOME", "/nowhere")
    monkeypatch.setenv("JAVA_TOOL_OPTIONS", "-Xmx1k")
    with Broker() as broker:
        create_topic(broker.bootstrap_servers, "bare")
        assert any("Kafka Server started" in line for line in broker.logs())
        assert len(broker.logs(3)) == 3


def test_kafkas_own_tools(broker: Broker) -> None:
    shown = broker.tool(
        "kafka.admin.ConfigCommand",
        ["--bootstrap-server", broker.bootstrap_servers, "--describe", "--all", "--broker", "1"],
    )
    assert "auto.create.topics.enable=false" in shown
    with pytest.raises(ClusterError, match="ConfigCommand failed"):
        broker.tool("kafka.admin.ConfigCommand", ["--bootstrap-server", broker.bootstrap_servers])
