"""Closed vocabularies of table columns."""

from __future__ import annotations

import polars as pl

from traceanalyzer.review import vocabulary
from traceanalyzer.review.vocabulary import words
from traceanalyzer.schedule import Phase

PHASE = pl.Enum([phase.value for phase in Phase])

SEVERITY = pl.Enum(words(vocabulary.Severity))

OWNER = pl.Enum(words(vocabulary.Owner))

STEP_PHASE = pl.Enum(words(vocabulary.StepPhase))

GATHERED = ["gather", "reduce", "reduce_backward", "gather_backward"]
"""Directions of experts sliced over ranks: tokens of all ranks come together, results are summed and scattered."""

DIRECTION = pl.Enum(words(vocabulary.Direction))

BASIS = pl.Enum(["durations", "clock", "own_min", "none"])

KERNEL_KIND = pl.Enum(["gemm", "attention", "other", "fused", "communication", "barrier", "copy"])
"""What a device operation does; `fused` computes and communicates, `barrier` only waits for other ranks."""

ROLE = pl.Enum(words(vocabulary.Role))

MATCH_BASIS = pl.Enum(["communicator_id", "sequence", "order", "none"])

CAUSE = pl.Enum(words(vocabulary.PipelineCause))
