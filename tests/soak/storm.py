"""A storm: a small night on a broker of its own, a run and an archiver, and faults that a seed chooses."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import psutil
from confluent_kafka import KafkaException, Producer, TopicPartition
from confluent_kafka.admin import (
    AclBindingFilter,
    AclOperation,
    AdminClient,
    NewPartitions,
    NewTopic,
)

from cluster.kafka.broker import Broker
from pipeline.channels.definition import Definition
from pipeline.channels.registry import write_registry
from tests.archive.test_follow import Following, following
from tests.pipeline.night import REPOSITORY, Run, night, running
from tests.pipeline.test_one_victim import GUARDED, forbid
from tests.pipeline.topics import Transactions, limit, records, recreate
from tests.soak.link import FAILURES, WELL, Link
from tests.soak.oracle import Oracle, open_gaps, sources

GROUP = "zads"
SECONDS = 240.0
BAD = REPOSITORY / "tests" / "pipeline" / "bad_filters.py"
BAD_FILTERS = ["raises", "raises_on_some", "hoards", "quits"]
CHUNK = 40
"""Records that are published between two faults."""
ENDED = (0, 3, 4)
"""Exit codes of a run that has ended in order: all well, a channel suspended, records lost."""


@dataclass
class Storm:
    """The world of one seed. log: what was done, in words."""

    seed: int
    folder: Path
    broker: Broker
    log: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.rng = random.Random(self.seed)
        self.servers = self.broker.bootstrap_servers
        self.admin = AdminClient({"bootstrap.servers": self.servers})
        self.topics = [f"ztf_2023{10 + n}12_programid1" for n in range(self.rng.randint(1, 2))]
        self.channels = {"real": 0.65, "every": 0.0}
        self.oracle = Oracle(self.servers, GROUP, self.topics, self.channels)
        self.packets = [alert.packet for alert in night()]
        self.rng.shuffle(self.packets)
        self.stack = ExitStack()
        self.link = Link(self.broker.port)
        self.numbers = iter(range(1, 1000))
        self.foreign: list[tuple[Transactions, bool]] = []
        self.limited = False
        self.forbidden: list[AclBindingFilter] = []
        self.beside: list[Run] = []

    # -- the ground ---------------------------------------------------------------------------------

    def begin(self) -> None:
        """Topics, a run, an archiver."""
        self.stack.enter_context(self.link)
        new = [NewTopic(topic, self.rng.randint(1, 4)) for topic in self.topics]
        for future in self.admin.create_topics(new).values():
            future.result()
        config = "[dispatch]\nmessages = 15\n[channels.real]\nfilter = 'real_bogus'\n"
        config += "[channels.every]\nfilter = 'real_bogus'\nparameters = {rb_min = 0.0}\n"
        for name in self.rng.sample(BAD_FILTERS, k=self.rng.choice([0, 0, 1])):
            self.log.append(f"a filter that {name}")
            config += f"[channels.{name}]\nfilter = '{BAD}:{name}'\n"
        (self.folder / "zads.toml").write_text(config)
        self.publish()
        self.run = self.start()
        self.archiver = self.follow()
        self.run.until(lambda: len(records(self.servers, "channel.every")) > 0, "a delivery", SECONDS)

    def start(self, *arguments: str) -> Run:
        """A run with a log of its own; returns when it has joined its group, or ended."""
        place = self.folder / f"run{next(self.numbers)}"
        place.mkdir()
        shutil.copy(self.folder / "zads.toml", place)
        run = self.stack.enter_context(running(self.link.bootstrap, place, "--workers", "2", *arguments))
        deadline = time.monotonic() + SECONDS
        while "partitions assigned" not in run.text() and run.process.poll() is None:
            assert time.monotonic() < deadline, f"it never joins its group\n{run.text()[-4000:]}"
            time.sleep(0.2)
        return run

    def follow(self) -> Following:
        return self.stack.enter_context(following(self.broker, self.folder, "--seconds", "1"))

    def publish(self) -> None:
        """Some alerts, some of them private, and a packet that nobody can read; one request at a time."""
        producer = Producer({"bootstrap.servers": self.servers, "acks": "all", "max.in.flight": 1})
        for _ in range(CHUNK):
            topic = self.rng.choice(self.topics)
            place = self.rng.randrange(self._partitions(topic))
            bad = self.rng.random() < 0.03
            raw = b"bad %d" % next(self.numbers) if bad else self.packets.pop()
            producer.produce(topic, raw, partition=place)
        assert producer.flush(60) == 0

    def _partitions(self, topic: str) -> int:
        """How many a topic has, as soon as the broker answers and knows of one that was just made."""
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            with suppress(KafkaException):
                if known := len(self.admin.list_topics(topic, timeout=20).topics[topic].partitions):
                    return known
            time.sleep(0.1)
        raise AssertionError(f"nobody knows {topic}")

    def _asked(self, call: Callable[[AdminClient], dict[Any, Future]]) -> None:
        """What may be asked twice of a broker that has just come back: each time by another client."""
        for left in (2, 1, 0):
            by = AdminClient({"bootstrap.servers": self.servers})  # it must outlive its futures
            try:
                for future in call(by).values():
                    future.result()
                return
            except KafkaException:
                if not left:
                    raise

    # -- faults -------------------------------------------------------------------------------------

    def kill_a_worker(self) -> None:
        for worker in self.rng.sample(self.run.workers(), k=min(1, len(self.run.workers()))):
            with suppress(psutil.NoSuchProcess):  # it may be ending by itself
                worker.kill()

    def kill_all_workers(self) -> None:
        for worker in self.run.workers():
            with suppress(psutil.NoSuchProcess):  # it may be ending by itself
                worker.kill()

    def stray_kills(self) -> None:
        for _ in range(self.rng.randint(2, 4)):
            self.kill_a_worker()
            time.sleep(self.rng.random())

    def freeze_a_worker(self) -> None:
        if workers := self.run.workers():
            self._freeze(self.rng.choice(workers), self.rng.choice([0.5, 3.0, 12.0]))

    def freeze_the_coordinator(self) -> None:
        self._freeze(psutil.Process(self.run.process.pid), self.rng.choice([0.5, 3.0, 9.0]))

    def kill_the_coordinator(self) -> None:
        self.run.kill()
        time.sleep(self.rng.choice([0.0, 2.0, 8.0]))
        self.run = self.start()

    def stop_the_coordinator(self) -> None:
        self.run.process.send_signal(self.rng.choice([signal.SIGINT, signal.SIGTERM]))
        assert self.run.wait(90) in ENDED, self.run.text()[-3000:]
        self.run = self.start()

    def replace_the_coordinator(self) -> None:
        """Another takes its place while it is frozen; when it thaws one of the two must go.

        A client that finds its session over joins again, so that may be either.
        """
        old = self.run
        psutil.Process(old.process.pid).suspend()
        self.run = self.start()
        time.sleep(self.rng.choice([1.0, 8.0]))
        psutil.Process(old.process.pid).resume()
        deadline = time.monotonic() + 90
        while not (ended := [run for run in (old, self.run) if run.process.poll() is not None]):
            assert time.monotonic() < deadline, "two coordinators of one name"
            time.sleep(0.2)
        assert (code := ended[0].wait()) == 1, f"exit code {code}: {ended[0].text()[-3000:]}"
        self.run = old if ended[0] is self.run else self.run

    def another_replica(self) -> None:
        if len(self.beside) < 1:
            self.beside.append(self.start("--replica", f"{len(self.beside) + 1}"))

    def kill_the_archiver(self) -> None:
        self.archiver.process.kill()
        self.archiver = self.follow()

    def restart_the_broker(self) -> None:
        self.broker.stop()
        time.sleep(self.rng.choice([0.0, 3.0]))
        self.broker.start()

    def kill_the_broker(self) -> None:
        self.broker.kill()
        self.broker.start()

    def freeze_the_broker(self) -> None:
        self._freeze(psutil.Process(self.broker.pid), self.rng.choice([1.0, 8.0, 14.0]))

    def cut_a_link(self) -> None:
        """Between the broker and the coordinator, or a worker, or both: in one way, both, or slow."""
        how = self.rng.choice([*FAILURES, "the connection breaks"])
        workers = [worker.pid for worker in self.run.workers()]
        whose = self.rng.choice([[self.run.process.pid], workers[:1], [self.run.process.pid, *workers]])
        self.log.append(how)
        if how in FAILURES:
            self.link.fail(replace(FAILURES[how], of=frozenset(whose)))
        else:
            self.link.reset(whose)
        time.sleep(self.rng.choice([1.0, 8.0, 14.0]))
        self.link.fail(WELL)

    def enlarge_a_topic(self) -> None:
        topic = self.rng.choice(self.topics)
        self._asked(lambda by: by.create_partitions([NewPartitions(topic, self._partitions(topic) + 1)]))

    def make_a_topic_again(self) -> None:
        topic = self.rng.choice(self.topics)
        self._abandon_foreign()
        self.oracle.before += sources(self.servers, [topic])
        self.oracle.restarts[topic] += 1
        recreate(self.servers, topic, self.rng.randint(1, 3))

    def cut_a_topic(self) -> None:
        """Retention: the older half of each partition goes."""
        topic = self.rng.choice(self.topics)
        there = sources(self.servers, [topic])
        middle = {
            p: sorted(o for _, q, o in (s.place for s in there) if q == p)
            for _, p, _ in (s.place for s in there)
        }
        cuts = {p: offsets[len(offsets) // 2] for p, offsets in middle.items()}
        self.oracle.before += [one for one in there if one.place[2] < cuts[one.place[1]]]
        asked = [TopicPartition(topic, p, offset) for p, offset in cuts.items()]
        self._asked(lambda by: by.delete_records(asked))

    def abort_a_foreign_transaction(self) -> None:
        Transactions(self.servers, self.rng.choice(self.topics)).write([b"aborted"] * 3, commit=False)

    def leave_a_foreign_transaction_open(self) -> None:
        """It holds up who reads committed records, until it ends some faults later."""
        foreign = Transactions(self.servers, self.rng.choice(self.topics))
        foreign.leave_open([self.packets.pop() for _ in range(3)])
        self.foreign.append((foreign, self.rng.random() < 0.5))

    def limit_a_channels_topic(self) -> None:
        self._limit(20_000)
        self.limited = True

    def take_a_right_away(self) -> None:
        """Nobody may write to a channel's topic until the end."""
        self.forbidden = forbid(self.admin, "channel.every", AclOperation.WRITE)

    def slow_everything_down(self) -> None:
        """A quota on what zads may write: for some seconds nearly nothing."""
        entity = ["--entity-type", "clients", "--entity-name", "zads"]
        where = ["--bootstrap-server", self.servers, "--alter", *entity]
        self.broker.tool("kafka.admin.ConfigCommand", [*where, "--add-config", "producer_byte_rate=100000"])
        time.sleep(self.rng.choice([2.0, 6.0]))
        self.broker.tool("kafka.admin.ConfigCommand", [*where, "--delete-config", "producer_byte_rate"])

    def enable_a_channel(self) -> None:
        if "late" in self.channels:
            return
        new = Definition(name="late", filter="real_bogus", parameters={"rb_min": 0.3}, state="enabled")
        write_registry([new], self.servers, who="the storm")
        self.channels["late"] = 0.3
        self.oracle.late.add("late")

    def _limit(self, most: int) -> None:
        limit(self.servers, "channel.every", most)

    @staticmethod
    def _freeze(process: psutil.Process, seconds: float) -> None:
        with suppress(psutil.NoSuchProcess):
            process.suspend()
            time.sleep(seconds)
            process.resume()

    def _abandon_foreign(self) -> None:
        for foreign, commit in self.foreign:
            with suppress(Exception):  # it may have timed out, which aborts it
                foreign.commit() if commit else foreign.abort()
        self.foreign = []

    # -- its course ---------------------------------------------------------------------------------

    def strike(self, fault: str) -> None:
        """One fault, with alerts coming before, perhaps during, and after it."""
        self.log.append(fault)
        act: Callable[[], None] = getattr(self, fault)
        during = None
        if fault in GENTLE and self.rng.random() < 0.5:
            during = threading.Thread(target=self.publish)
            during.start()
        act()
        if during is not None:
            during.join()
        time.sleep(self.rng.random())
        self.publish()
        ended = self.run.process.poll()
        assert ended is None, f"the run has ended, exit code {ended}\n{self.run.text()[-4000:]}"
        self._look_after_the_archiver()

    def _look_after_the_archiver(self) -> None:
        """One that finds no broker when it begins ends, and is started again, as a service is."""
        if self.archiver.process.poll() is None:
            return
        said = self.archiver.log.read_text()
        assert said.rstrip().splitlines()[-1].startswith("zads: no Kafka broker answers"), said[-3000:]
        assert self.archiver.process.returncode == 1
        self.archiver = self.follow()

    def end(self) -> list[str]:
        """Let everything be delivered, fill the gaps, and have it judged."""
        self._abandon_foreign()
        for run in [self.run, *self.beside]:
            run.process.send_signal(signal.SIGINT)
        for run in [self.run, *self.beside]:
            assert run.wait(SECONDS) in ENDED, run.text()[-4000:]
        if self.limited:
            self._limit(10_000_000)
        if self.forbidden:
            self._asked(lambda by: by.delete_acls(self.forbidden))
        for _ in range(2 if self.beside else 1):  # the second finds what the other replica was doing
            last = self.start("--until-drained")
            assert last.wait(SECONDS) in ENDED, last.text()[-4000:]
        self._keep_all()
        for name, gaps in open_gaps(self.servers).items():
            self.oracle.filled.update((name, gap["topic"], gap["partition"]) for gap in gaps)
            if name in self.channels:
                self._backfill(name)
        problems = self.oracle.judge()
        self.oracle.judge_archive(self.folder / "archive")
        return problems

    def _keep_all(self) -> None:
        self.archiver.process.send_signal(signal.SIGTERM)
        self.archiver.process.wait(SECONDS)
        last = self.stack.enter_context(following(self.broker, self.folder, "--until-drained"))
        assert last.process.wait(SECONDS) in ENDED, last.log.read_text()[-3000:]

    def _backfill(self, name: str) -> None:
        """Gaps may be left where retention took the records: the oracle looks into them."""
        command = [sys.executable, "-m", "zads", "channel", "backfill", name, "--bootstrap", self.servers]
        environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        assert "Traceback" not in done.stderr, done.stderr


GENTLE = (
    "kill_a_worker",
    "kill_all_workers",
    "stray_kills",
    "freeze_a_worker",
    "freeze_the_coordinator",
    "kill_the_coordinator",
    "stop_the_coordinator",
    "replace_the_coordinator",
    "another_replica",
    "kill_the_archiver",
    "abort_a_foreign_transaction",
    "leave_a_foreign_transaction_open",
    "enable_a_channel",
    "cut_a_link",
)
"""Faults that leave the broker and its topics alone: alerts come meanwhile."""
FAULTS = (
    *GENTLE,
    "restart_the_broker",
    "kill_the_broker",
    "freeze_the_broker",
    "enlarge_a_topic",
    "make_a_topic_again",
    "cut_a_topic",
    "limit_a_channels_topic",
    "take_a_right_away",
    "slow_everything_down",
)


def storm(seed: int, folder: Path, faults: tuple[str, ...] | None = None) -> list[str]:
    """What is wrong after the storm of a seed; faults: these, instead of those that the seed chooses."""
    with Broker(settings=GUARDED) as broker:
        world = Storm(seed, folder, broker)
        chosen = faults or tuple(world.rng.choices(FAULTS, k=world.rng.randint(1, 5)))
        try:
            with world.stack:
                world.begin()
                for fault in chosen:
                    world.strike(fault)
                problems = world.end()
        except BaseException as error:
            error.add_note(f"seed {seed}: {chosen}, of these done: {world.log}")
            error.add_note(state_of(broker))
            raise
    return [f"seed {seed}, {', '.join(chosen)}: {words}" for words in problems]


def state_of(broker: Broker) -> str:
    """Whether it lives, whether a new client reaches it, how busy the machine is, and what it wrote last."""
    try:
        topics = AdminClient({"bootstrap.servers": broker.bootstrap_servers}).list_topics(timeout=20).topics
        reached = f"tells {len(topics)} topics"
    except KafkaException as error:
        reached = str(error)
    last = "\n".join(broker.logs(20))
    return f"broker runs: {broker.is_running()}, {reached}; load {os.getloadavg()[0]:.0f}; its log:\n{last}"
