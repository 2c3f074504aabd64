"""The description of a job that reference runs write (`run.json`) and analyses read.

A run folder holds

    run.json                    this description: begun at start, completed at the end
    traces/rank00000.json.gz    one Kineto trace per rank
    status/rank00000.json       one `RankStatus`: which run a rank belongs to, how far it came, whether it lives
    steps/rank00000.jsonl       one `StepRecord` per line: what the loop saw of each step
    routing/rank00000.jsonl     one `RoutingRecord` per line (expert jobs only)

Each of them, and every trace (`METADATA_KEY`), holds the run's `job_id`, so that folders of nodes can be put together.

Everything here is plain dataclasses, read with msgspec, which holds values to the ranges annotated here, and written as
JSON: times in integer nanoseconds since the Unix epoch, durations with their unit in the name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Self, TypedDict, Unpack

from msgspec import Meta

from traceanalyzer.hardware import Hardware
from traceanalyzer.layout import DeclaredDegrees, Layout
from traceanalyzer.model import ModelShape

Count = Annotated[int, Meta(ge=1, le=1 << 53)]
CountOrUnknown = Annotated[int, Meta(ge=0, le=1 << 53)]
"""0: not known."""
Rank = Annotated[int, Meta(ge=0, lt=1 << 31)]
PositiveMs = Annotated[float, Meta(gt=0)]
Span = Annotated[float, Meta(ge=0)]

SCHEMA_VERSION = 1
RUN_FILE = "run.json"
TRACE_FILE = "traces/rank{rank:05d}.json.gz"
CAPTURES = "captures"
"""Folder of captures that ranks made of their own traces."""
STEPS_FILE = "steps/rank{rank:05d}.jsonl"
ROUTING_FILE = "routing/rank{rank:05d}.jsonl"
STATUS_FILE = "status/rank{rank:05d}.json"
METADATA_KEY = "traceanalyzer"
"""Top-level key of a trace: an object with `job_id`, `rank` and `world_size`."""
LAYOUT_BASIS = "layout"
"""Key of `Job.basis`."""
DECLARED = "declared"
"""Value in `Job.basis`: the user said so."""

ACTION_RANGE = "compute:{action}"
"""Profiler range around one compute action, for example `compute:2F0`: the computation alone, no receive."""
EXPERT_RANGE = "moe:{part}|layer={layer}"
"""Profiler range around one part of a MoE layer; parts are listed in `EXPERT_PARTS`."""
EXPERT_PARTS = (
    "router",
    "permute",
    "count_exchange",
    "dispatch",
    "experts",
    "combine",
    "unpermute",
    "shared_expert",
    "combine_backward",
    "experts_backward",
    "dispatch_backward",
    # experts sliced over ranks: tokens of all ranks come together, results are summed and scattered
    "gather_routing",
    "gather_gates",
    "gather",
    "reduce",
    "reduce_backward",
    "gather_backward",
    "gather_gates_backward",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClockOffset:
    """One ping-pong measurement: `rank clock - rank 0 clock`, from the sample with the smallest round trip."""

    offset_ns: Annotated[int, Meta(ge=-(1 << 62), le=1 << 62)]
    uncertainty_ns: Annotated[int, Meta(ge=0, le=1 << 62)]
    """Half the smallest round trip: the true offset lies within it."""
    at_ns: Annotated[int, Meta(ge=-(1 << 62), le=1 << 62)]


@dataclass(frozen=True, slots=True, kw_only=True)
class RankRecord:
    """Where one rank ran."""

    rank: Rank
    host: str
    pid: int
    cores: tuple[int, ...]
    clock_start: ClockOffset | None = None
    clock_end: ClockOffset | None = None
    last_step: int | None = None
    """Last step this rank finished."""
    boot: str = ""
    """The kernel's boot id: ranks with equal ones read one clock. Empty if it is not known."""
    local_rank: int | None = None
    """The rank's number on its node, as its launcher says."""
    node: int | None = None
    """Number of its node, as its launcher says."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RankStatus:
    """What a rank says of itself while it records, rewritten at every heartbeat (`HEARTBEAT_S`) and at its end."""

    job_id: str
    record: RankRecord
    world_size: Count
    state: Annotated[str, Meta(pattern="^(running|completed|stopped)$")]
    """`running`, `completed`, or `stopped`: ended before the loop did, by an exception or a signal."""
    started_ns: int
    """When the process began, by its own clock."""
    beat_ns: int
    """The last heartbeat. A process that was killed or frozen has none after that."""
    last_step: int | None = None
    """Last step this rank finished."""
    reason: str = ""
    """Why it stopped."""
    calls: str = ""
    """Where the loop's thread was at the last heartbeat: its innermost calls, innermost first."""


HEARTBEAT_S = 5.0
"""Seconds between two heartbeats of a rank."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pacing:
    """How long a paced run makes each computation last (the real computation, then sleep to a deadline)."""

    forward_ms: Span | None = None
    """Forward of one microbatch through one rank's share of the model (a chunk takes 1/num_chunks of it)."""
    backward_ms: Span | None = None
    """Full backward, likewise; where input- and weight-gradient are split, each takes half."""
    expert_us_per_token: Span | None = None
    """Expert computation per received token, forward; backward takes twice as long."""


class JobFields(TypedDict, total=False):
    """What `Job.of` takes beside degrees and model; see the fields of `Job`."""

    schedule: str | None
    num_stages: int | None
    num_microbatches: int | None
    num_chunks: int | None
    dtype: str
    tokens_per_step: int
    sequence_length: int
    recompute: str | None
    action_pattern: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What was run. `kind` is `pipeline`, `experts` or `dense`."""

    kind: str
    layout: Layout | None
    """None: nobody declared it."""
    model: ModelShape
    compute_mode: str
    """`real` or `paced`."""
    backend: str
    """`gloo` or `nccl`."""
    dtype: str
    tokens_per_step: CountOrUnknown
    """Over the whole job; known where the model is."""
    sequence_length: CountOrUnknown
    """Known where the model is."""
    schedule: str | None = None
    """A name of `ScheduleName`; None without pipeline parallelism."""
    num_stages: Count | None = None
    num_microbatches: Count | None = None
    num_chunks: Count | None = None
    """Stages per rank."""
    pacing: Pacing | None = None
    capacity_factor: Span | None = None
    """Experts have room for ceil(factor · experts per token · tokens / experts) copies of a rank's tokens; None: for all."""
    pads_to_capacity: bool = False
    """Buffers of experts travel filled up to their capacity."""
    recompute: Annotated[str, Meta(pattern="^(full|selective)$")] | None = None
    """`full`, `selective` or None."""
    hardware: Hardware | None = None
    ranks: tuple[RankRecord, ...] = ()
    profiled_steps: tuple[int, ...] = ()
    action_pattern: str | None = None
    """Regular expression of names that label compute actions, with named groups `phase`, `stage`, `microbatch`."""
    traced_ranks: tuple[Rank, ...] | None = None
    """Ranks chosen to write a trace: others are sampled out by design, not missing. None: all."""
    unprofiled_step_ms: PositiveMs | None = None
    """Median duration of the same step without the profiler, in the same run."""
    extras: dict[str, str] = field(default_factory=dict[str, str])
    """What else there may be to record, and whether it was: by name, `recorded` or why not. Of rank 0."""
    versions: dict[str, str] = field(default_factory=dict[str, str])
    seed: int = 0
    created: str = ""
    """ISO 8601, UTC."""
    status: str = "started"
    """`started`, `completed` or `failed`."""
    job_id: str = ""
    """Equal on all ranks of one run, and in every file it wrote; empty in runs of earlier recorders."""
    num_ranks: Count | None = None
    """Ranks of the whole job, where its launcher or process group says so."""
    degrees: DeclaredDegrees | None = None
    """What was declared before the number of ranks was known; the recorder makes `layout` of it."""
    basis: dict[str, str] = field(default_factory=dict[str, str])
    """How a field is known, by name: `declared`, or which process groups showed it, or why it is null."""
    schema_version: int = SCHEMA_VERSION

    @classmethod
    def of(
        cls,
        *,
        pp: int = 1,
        dp: int | None = None,
        tp: int = 1,
        ep: int = 1,
        cp: int = 1,
        model: ModelShape | Mapping[str, object] | str | None = None,
        **fields: Unpack[JobFields],
    ) -> Self:
        """What is known of a job, for a recorder.

        Args:
            pp: pipeline stages over ranks; like every degree but `dp` 1 if it is left out.
            dp: data-parallel replicas; left out: what the other degrees leave of the job's ranks.
            tp: tensor-parallel ranks.
            ep: expert-parallel ranks, within `dp · cp`.
            cp: context-parallel ranks.
            model: a shape, a configuration (Hugging Face, Megatron-LM or torchtitan) or a preset's name.
            **reported: further fields of `Job`.

        Raises:
            UsageError: degrees that no job can have, a model's name that is not known.
            InputError: a configuration that is not understood.
        """
        degrees = DeclaredDegrees(pp=pp, dp=dp, tp=tp, ep=ep, cp=cp)
        bare = cls(
            kind="pipeline" if pp > 1 else "experts" if ep > 1 else "other",
            layout=None,
            model=_shape(model),
            compute_mode="real",
            backend="none",
            dtype="unknown",
            tokens_per_step=0,
            sequence_length=0,
            degrees=degrees if degrees != DeclaredDegrees() else None,
        )
        return replace(bare, **fields)

    @property
    def world_size(self) -> int | None:
        """Number of ranks: by the layout, as recorded, else as many as wrote of themselves; None if unknown."""
        return self.layout.world_size if self.layout is not None else self.num_ranks or len(self.ranks) or None

    @property
    def declares_nothing(self) -> bool:
        """A recorder without any settings wrote this: kind `other` without model, schedule and stages."""
        fields = (self.model.num_layers, self.schedule, self.num_stages, self.num_microbatches, self.num_chunks)
        return self.kind == "other" and not any(fields) and LAYOUT_BASIS not in self.basis


def _shape(model: ModelShape | Mapping[str, object] | str | None) -> ModelShape:
    if isinstance(model, ModelShape):
        return model
    if model is None:
        return UNKNOWN_MODEL
    from traceanalyzer.model_configs import find_preset, read_model_config  # noqa: PLC0415 - only who names a model

    return find_preset(model).shape if isinstance(model, str) else read_model_config(model)


UNKNOWN_MODEL = ModelShape(
    num_layers=0, hidden_size=0, num_heads=0, num_kv_heads=0, head_size=0, ffn_size=0, vocab_size=0
)
"""Of a job of whose model nobody said anything."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepRecord:
    """What the training loop saw of one step on one rank, by wall clock."""

    step: int
    """The number the profiler gives the step (`ProfilerStep#N`) where it is profiled."""
    rank: int
    start_ns: int
    end_ns: int
    profiled: bool
    loss: float | None = None
    """Mean loss of the step, on the rank that computes it."""
    cpu_pressure_us: int | None = None
    """Growth of `some` in /proc/pressure/cpu during the step; None if the kernel does not say."""
    involuntary_switches: int | None = None
    """Growth of this process's involuntary context switches during the step."""
    peak_in_flight: int | None = None
    """Most microbatches whose activations this rank held at once, counted per stage."""
    peak_saved_bytes: int | None = None
    """Most bytes that autograd kept for backward at once, weights left out; None if it was not metered."""
    peak_allocated_bytes: int | None = None
    """Most bytes in tensors at once (CUDA's allocator)."""
    peak_reserved_bytes: int | None = None
    """Most bytes that CUDA's allocator held at once."""
    device_clock_mhz: int | None = None
    """The device's clock as the step ended; profiled steps, where NVML gives it."""
    device_power_mw: int | None = None
    """Its power, likewise."""
    job_id: str = ""
    """Of the run, as in `run.json`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RoutingRecord:
    """Where the tokens of one rank went in one MoE layer of one step."""

    step: int
    layer: int
    rank: int
    tokens_to_expert: tuple[int, ...]
    """Tokens this rank routed to each expert of the layer, all experts, before any drop."""
    send_splits: tuple[int, ...]
    """Rows sent to each rank of the expert group, what fills buffers included; empty if experts are sliced over ranks."""
    receive_splits: tuple[int, ...]
    dropped: int = 0
    """Token copies that found no room."""
    group: tuple[int, ...] = ()
    """Global ranks of the expert group, in split order."""
    dropped_to_expert: tuple[int, ...] = ()
    """`dropped` by expert; empty if it is 0 or not known."""
    expert_ranks: tuple[int, ...] = ()
    """Global rank that holds each expert; empty: equal blocks in the order of `group`."""
    filling_rows: int = 0
    """Rows of zeros among those sent, that fill buffers up to a capacity."""
    aligned_rows: int = 0
    """Rows of zeros that this rank's expert computations were filled up with."""
    job_id: str = ""
    """Of the run, as in `run.json`."""
