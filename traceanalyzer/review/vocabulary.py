"""The closed vocabularies of the result: every word that a field may hold, once.

The JSON Schema, the strict decoder, the type checker and the tables' enumerations (`schema.categories`) all take them
from here.
"""

from __future__ import annotations

from typing import Literal, get_args

# What the result rests on.
CaptureVerdict = Literal["complete", "sampled", "partial", "unusable"]
HostVerdict = Literal["faithful", "distorted", "unknown"]
CaptureCheckName = Literal["profiled_step", "orphan_kernels", "profiler_overhead", "warm_up", "open_end"]
Severity = Literal["info", "repair", "loss", "error"]
"""How bad a defect is, mildest first."""
DefectAction = Literal["kept", "clamped", "renamed", "repaired", "skipped", "assumed"]
"""What reading did about a defect."""
AffectedMetric = Literal["bubble", "all_to_all", "mfu", "step", "launch", "recorded"]
"""What a defect may have changed."""
ClockBasis = Literal["single_rank", "same_boot", "same_host", "recorded", "matched", "one_file", "op_table", "unknown"]
"""How the ranks' clocks were put on one; the times of an op table are taken as they are."""

# The job.
FactSource = Literal["declared", "recorded", "inferred"]
"""`declared`: run.json, a job's file or an option; `recorded`: in the traces."""
Recomputation = Literal["none", "selective", "full", "partial"]
"""What backward computes again: core attention alone, whole layers, or something else."""

# The first screen.
TileId = Literal[
    "bubble",
    "all_to_all",
    "mfu",
    "between_chunks",
    "compute",
    "exposed",
    "overlapped",
    "waiting",
    "host",
    "step_time",
]
"""In the order of the first screen."""
TileStatus = Literal["good", "bad", "neutral"]

# Where time goes.
Owner = Literal["compute", "transfer", "wait", "communication", "copy", "queued", "launch_gap", "host", "unknown"]
"""Owners of the accounting law, in order of precedence; `communication` is transfer or wait, not separable."""
ApartReason = Literal[
    "cut at its start",
    "open end",
    "not on all ranks",
    "kernels missing",
    "no pipeline measured",
    "first step",
    "outlier",
]
"""Why no figure speaks of a captured step; steps with one of the last two reasons are whole."""
StepPhase = Literal["F", "B", "I", "W", "optimizer", "grad_sync", "before_chunks", "between_chunks", "other"]
"""What a step is doing, in order of precedence; `F`, `B`, `I`, `W` are inside chunks."""

# Pipelines.
PipelineCause = Literal[
    "stage",
    "straggler",
    "transfer",
    "chunk_comm",
    "overlap_dp",
    "host",
    "jitter",
    "slack",
    "outside_sample",
    "unexplained",
]
"""What can make a pipeline step longer than its ideal."""
RankCause = Literal["computation", "host", "late_starts", "late", "link"]
"""`host`: late launches; `link`: transfers that take longer than others of the run; `late_starts`: nothing recorded shows why kernels start late; `late`: only lateness is known."""
StragglerCause = Literal["stage", "straggler", "stage or rank", "computation", "host", "late_starts", "late", "link"]
"""`stage or rank`: there are too few replicas to separate the two."""
MicrobatchSize = Literal["same", "half"]
InFlightBasis = Literal["loop", "actions"]
"""`loop`: the training loop's own count; `actions`: counted on the timeline."""

# Communication.
Role = Literal["pp", "ep", "cp", "tp", "dp", "world"]
"""The mesh dimension that a communication serves; `world` is the whole job."""
RecordSource = Literal["flight_recorder", "nccl_inspector"]

# Experts.
Direction = Literal[
    "dispatch",
    "combine",
    "combine_backward",
    "dispatch_backward",
    "count_exchange",
    "gather",
    "reduce",
    "reduce_backward",
    "gather_backward",
    "other",
]
"""Where an exchange of an expert layer stands in it."""
LoadUnit = Literal["rank", "expert"]
LoadSide = Literal["received", "sent"]
LoadPattern = Literal["steady", "mixed", "wandering", "bursts"]
"""The same member in every step, in some, another one each time, or only few steps are uneven at all."""
LoadsSource = Literal["side_file", "splits", "side_file, splits", "bytes", "unpaired_splits"]
"""`bytes`: the split lists were cut."""
ExchangeCause = Literal["even", "compute", "communication", "mixed"]
"""Why an all-to-all is slow: not at all, a late member, a slow transfer, or both."""
ExpertCause = Literal["experts", "other_compute", "transfer", "before", "host"]
"""What the rank that is waited for was doing."""
ExpertRemedy = Literal["balanced_experts", "repaired_link", "full_overlap"]
PortSide = Literal["row", "column", "row or column"]
"""`row`: the rank's sends; `column`: its receives."""
LinkPattern = Literal["row", "column", "row or column", "point", "mixed"]
"""`point`: one pair of ranks."""
ExpertSharded = Literal["ep", "tp"]
"""`ep`: whole experts on every rank; `tp`: a slice of every expert."""
ExpertPass = Literal["experts", "experts_backward"]

# Matrix multiplications.
OperatorKind = Literal["gemm", "attention"]
Bound = Literal["compute", "memory"]

# What few ranks can show.
Coverage = Literal["all", "pipelines", "expert_groups", "replicas", "one_rank", "some"]
"""Whole pipelines, whole expert groups, all replicas of a stage, a lone rank, or none of these."""
FigureScope = Literal["job", "pipeline", "group", "stage", "rank", "ranks"]
"""What a figure is of; `group` is one of experts."""
OwnScope = Literal["rank"]
StageSide = Literal["upstream", "downstream", "this"]
"""Where the slowest stage lies, seen from a rank."""


def words(vocabulary: object) -> list[str]:
    """The words of a vocabulary, in its order."""
    return list(get_args(vocabulary))


RemedyClass = Literal["fault", "change", "ideal"]
"""`fault`: repair of a rank, link, host or load beyond chance; `change`: schedule, microbatches, placement, stage cut;
`ideal`: what no run has (free transfer, no jitter)."""
WithheldCode = Literal[
    "nothing_measured",
    "no_pipeline",
    "no_whole_pipeline",
    "no_pipeline_step",
    "pipeline_not_captured",
    "ranks_not_captured",
    "undeclared",
    "unmarked_steps",
    "no_exchanges",
    "no_loads",
    "no_expert_times",
    "experts_undeclared",
    "not_split",
    "clocks",
    "replay",
]
"""The kind of a reason, where several metrics share it."""
FaultBasis = Literal["replay", "replica", "waits", "excess", "together"]
"""`replica`: a captured pipeline replayed at this rank's times. Only bounds: `waits`, what others wait for the rank; `excess`,
what it needs beyond its peers, where who waits for it is not known; `together`, what it saves with other ranks that hide it."""
