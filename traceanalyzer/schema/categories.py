"""Closed vocabularies of table columns."""

from __future__ import annotations

import polars as pl

from traceanalyzer.schedule import Phase

PHASE = pl.Enum([phase.value for phase in Phase])

SEVERITY = pl.Enum(["info", "repair", "loss", "error"])

OWNER = pl.Enum(
    ["compute", "transfer", "wait", "communication", "copy", "queued", "launch_gap", "host", "unknown"],
)
"""Owners of the accounting law, in order of precedence; `communication` is transfer or wait, not separable."""

STEP_PHASE = pl.Enum(
    ["F", "B", "I", "W", "optimizer", "grad_sync", "before_chunks", "between_chunks", "other"],
)
"""What a step is doing, in order of precedence: the ledger's second axis."""

GATHERED = ["gather", "reduce", "reduce_backward", "gather_backward"]
"""Directions of experts sliced over ranks: tokens of all ranks come together, results are summed and scattered."""

DIRECTION = pl.Enum(
    ["dispatch", "combine", "combine_backward", "dispatch_backward", "count_exchange", *GATHERED, "other"]
)

BASIS = pl.Enum(["durations", "clock", "own_min", "none"])

KERNEL_KIND = pl.Enum(["gemm", "attention", "other", "fused", "communication", "barrier", "copy"])
"""What a device operation does; `fused` computes and communicates, `barrier` only waits for other ranks."""

ROLE = pl.Enum(["pp", "ep", "cp", "tp", "dp", "world"])
"""The mesh dimension a communication serves; `world` is the whole job."""

MATCH_BASIS = pl.Enum(["communicator_id", "sequence", "order", "none"])

CAUSE = pl.Enum(
    [
        "stage",
        "straggler",
        "transfer",
        "chunk_comm",
        "host",
        "jitter",
        "slack",
        "outside_sample",
        "unexplained",
    ]
)
"""What can make a pipeline step longer than its ideal."""
