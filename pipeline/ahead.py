"""Imported once by the process that a machine's workers are forked from: what each needs for its first batch.

To load the decoder's machine code, and to read the code that a filter's version stands for, takes a second of
processor time. So it is done here, and not by each worker and by each that takes a dead one's place.
"""

from __future__ import annotations

from itertools import islice

from filters import registered
from pipeline.channels.channel import ChannelSet
from pipeline.worker import process  # noqa: F401 (what workers run)
from pipeline.worker.judging.evaluate import Evaluator
from schemas.surveys.registry import SURVEYS

Evaluator(ChannelSet(())).prepare()
for _survey in SURVEYS:
    for _filter in islice(registered(_survey).values(), 1):  # a new survey has no filters yet
        _ = _filter.version  # what all of them depend on is then known
