"""The decoder's memory: it grows, is handed on from batch to batch, and threads share it."""

import threading

import numpy as np

from schemas.packets.reader import PacketReader
from tests.schemas import oracle
from tests.schemas.conftest import container, ztf_records, ztf_schema
from tests.schemas.test_reader import COLUMNS, check


def test_memory_grows_when_a_history_is_long(packet):
    """More rows than the first guess, in the middle of a batch; then the reader knows."""
    raws = [packet(0), container(ztf_schema(), ztf_records(1, rows=3000)), packet(2)]
    reader = PacketReader(COLUMNS)
    for _ in range(2):
        check(reader.read(raws), {i: oracle.records_of(raw) for i, raw in enumerate(raws)})


def test_a_batch_keeps_its_memory_while_others_are_read(packet):
    """Memory is handed on from batch to batch, but only when nobody looks at it any more."""
    reader = PacketReader(COLUMNS)
    raws = [[packet(100 * turn + seed, rows=60) for seed in range(30)] for turn in range(3)]
    tables = [reader.read(some).table for some in raws]
    before = [table.to_pylist() for table in tables]
    part, kept = tables[0].column("prv_candidates.jd").values, before[0]
    del tables[0]  # the column alone holds on to its block
    for _ in range(3):
        for some in raws:
            reader.read(some)
    assert all(oracle.same(t.to_pylist(), b) for t, b in zip(tables, before[1:], strict=True))
    assert oracle.same(part.to_pylist(), [jd for row in kept for jd in row["prv_candidates.jd"] or ()])


def test_nothing_of_other_alerts_is_left_under_a_null(packet):
    """Memory used before is zeroed: else a partner's measurement might be found under a null."""
    reader = PacketReader(COLUMNS)
    full = [packet(seed, rows=60) for seed in range(60)]
    for turn in range(6):
        table = reader.read(full[turn::3] if turn % 2 else full).table
        for name in ("prv_candidates.magpsf", "rb"):
            column = table.column(name)
            column = column.values if name.startswith("prv") else column
            stored = np.frombuffer(column.buffers()[1], np.float32)[: len(column)]
            assert not stored[column.is_null().to_numpy(zero_copy_only=False)].any()
        del table, column, stored


def test_threads_share_a_reader(packet):
    raws = [packet(seed) for seed in range(8)]
    reader, seen = PacketReader(COLUMNS), []
    alone = reader.read(raws).table.to_pylist()

    def work():
        seen.extend(oracle.same(reader.read(raws).table.to_pylist(), alone) for _ in range(5))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == [True] * 20
