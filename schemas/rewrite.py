from __future__ import annotations
import io
from collections.abc import Sequence
import fastavro


def rewrite(raw: bytes, *, drop: Sequence[str] = (), public_only: bool = False) -> bytes:
    r = fastavro.reader(io.BytesIO(raw))
    recs = list(r)
    schema = dict(r.writer_schema)
    schema["fields"] = [f for f in schema["fields"] if f["name"] not in drop]
    for rec in recs:
        for h in ("prv_candidates", "fp_hists"):
            if public_only and rec.get(h):
                rec[h] = [e for e in rec[h] if e["programid"] == 1]
    out = io.BytesIO()
    fastavro.writer(out, schema, recs)
    return out.getvalue()
