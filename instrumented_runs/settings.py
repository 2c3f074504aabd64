"""What a reference job is asked to do: plain data, handed to every rank as one JSON argument.

Nothing here needs torch, so that the command line can check a request before anything is launched.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from fractions import Fraction

import msgspec

from instrumented_runs.experts.shares import heated, rounded
from traceanalyzer.errors import UsageError

PROGRESS = "PROGRESS "
"""Lines of a rank's output that begin so are meant for whoever launched the job."""
ORDER_FILE = "order.csv"
"""In the run folder: the order that torch's runtime is given, one row per rank, where torch has no class for it."""
FAILURE_FILE = "failures/rank{rank:05d}.json"
"""In the run folder: why a rank gave up."""

DEALT_ROUTINGS = (
    "balanced",
    "hot-experts",
    "hot-rank",
    "spread-heat",
    "ragged-sources",
    "idle-experts",
    "rotating",
    "burst",
)
"""Loads are exact. Against `balanced` one thing changes: a drawn set of experts is hot, one rank's experts are, as many
experts are at equal distances, one source brings more tokens, one rank's experts get none, the hot rank moves on every
step, or one rank is hot in single steps (`instrumented_runs.experts.loads`)."""
DRAWN_ROUTINGS = ("uniform", "zipf", "learned")
"""Drawn uniformly, drawn by Zipf's law, or the router's own choice."""
ROUTINGS = DEALT_ROUTINGS + DRAWN_ROUTINGS
"""How tokens choose experts."""
FORMER_ROUTINGS = {"hot": "hot-rank", "drifting": "rotating"}
"""Names that earlier versions gave, which are still read."""

SHARDINGS = ("ep", "tp")
"""Whole experts on every rank, or a slice of every expert on every rank."""


_FROM_ZERO = ("num_unprofiled_steps", "hot_rank")
"""Counts and numbers that may be 0 though their default is not; of all others the default says it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why a rank gave up."""

    rank: int
    reason: str
    at_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSettings:
    """What every kind of job has in common."""

    folder: str
    num_ranks: int = 4
    num_steps: int = 5
    """Profiled steps."""
    num_unprofiled_steps: int = 4
    """Steps after the profiled ones; the first is left out of the median."""
    compute_mode: str = "paced"
    """`real` or `paced`; `auto` is settled before a job starts."""
    seed: int = 0
    timeout_s: int = 40
    """A rank that waits longer than this for another one gives up."""
    start_timeout_s: int = 600
    """So long the nodes of a job wait for each other before it starts."""
    faults: tuple[str, ...] = ()
    launcher_pid: int = 0
    """Ranks end when this process has gone; 0: nobody to watch."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value, default = getattr(self, field.name), field.default
            if isinstance(value, bool) or not isinstance(value, int | float) or not isinstance(default, int | float):
                continue
            least = 1 if isinstance(default, int) and default > 0 and field.name not in _FROM_ZERO else 0
            if not value >= least and field.name != "seed":  # nor is nan
                raise UsageError(f"{field.name} must be at least {least}, got {value}", "give a larger number")


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineSettings(RunSettings):
    """A pipeline-parallel training job."""

    schedule: str = "1F1B"
    """A name of `ScheduleName`; empty for an order of the user's own."""
    num_microbatches: int = 8
    num_chunks: int = 0
    """Stages per rank; 0: as few as the schedule allows."""
    num_replicas: int = 1
    """Pipelines side by side, each with its own part of the batch; `num_ranks` counts the ranks of all."""
    forward_ms: float = 50.0
    """Paced: forward of one microbatch through one rank's share of the model."""
    backward_ms: float = 100.0
    num_layers: int = 0
    """0: the same number in every stage, and at least 8 in all."""
    hidden_size: int = 64
    num_heads: int = 4
    vocab_size: int = 64
    sequence_length: int = 32
    microbatch_size: int = 4

    def __post_init__(self) -> None:
        RunSettings.__post_init__(self)
        if self.num_replicas < 1 or self.num_ranks % self.num_replicas:
            raise UsageError(
                f"{self.num_ranks} ranks cannot form {self.num_replicas} equal pipelines",
                "replicas must divide ranks; --stages says how long one pipeline is",
            )

    @property
    def ranks_per_pipeline(self) -> int:
        """Ranks of one pipeline."""
        return self.num_ranks // self.num_replicas

    @property
    def num_stages(self) -> int:
        """Stages of the whole pipeline."""
        return self.ranks_per_pipeline * self.num_chunks


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpertSettings(RunSettings):
    """An expert-parallel training job: every rank is a data-parallel replica and holds a share of the experts."""

    routing: str = "hot-rank"
    """One of `ROUTINGS`."""
    experts_by: str = "ep"
    """One of `SHARDINGS`."""
    hot_factor: float = 2.4
    """What a hot expert receives, or a ragged source brings, in multiples of the mean."""
    hot_rank: int = 1
    """The shard whose experts are hot or idle, or whose source is ragged."""
    num_shards: int = 0
    """Shards of the batch, each with its own routing; 0: one per rank. More shards than ranks repeat a larger job."""
    expert_us_per_token: float = 100.0
    """Paced: expert computation per received token, forward; backward takes twice as long."""
    num_layers: int = 2
    hidden_size: int = 64
    num_heads: int = 4
    num_experts: int = 8
    experts_per_token: int = 2
    expert_ffn_size: int = 128
    shared_ffn_size: int = 0
    """Inner size of the shared expert that every token visits on its own rank; 0: none."""
    capacity_factor: float = 0.0
    """An expert takes at most ceil(factor · experts per token · tokens of the shard / experts) tokens of each shard of
    the batch, the first ones; the others drop it. 0: no token is dropped."""
    pad_to_capacity: bool = False
    """Every expert's buffer travels filled up to its capacity."""
    grouped_gemm: bool = False
    """All experts of a rank in one grouped matrix multiplication."""
    gemm_alignment: int = 1
    """Rows of every expert's matrix multiplication are filled up to a multiple of this."""
    placement: tuple[tuple[tuple[int, ...], ...], ...] = ()
    """Experts of every rank, layer by layer; empty: equal blocks in order."""
    vocab_size: int = 64
    sequence_length: int = 64
    sequences_per_shard: int = 8

    def __post_init__(self) -> None:
        RunSettings.__post_init__(self)
        if self.num_shards == 0:
            object.__setattr__(self, "num_shards", self.num_ranks)
        object.__setattr__(self, "routing", FORMER_ROUTINGS.get(self.routing, self.routing))
        if self.routing not in ROUTINGS:
            raise UsageError(f"there is no routing called '{self.routing}'", f"known: {', '.join(ROUTINGS)}")
        if self.num_experts % self.num_shards or self.num_shards % self.num_ranks:
            raise UsageError(
                f"{self.num_experts} experts cannot be shared by {self.num_ranks} ranks and {self.num_shards} shards",
                "ranks must divide shards, and shards must divide experts",
            )
        self._check_hot()
        self._check_sharding()
        self._check_placement()

    @property
    def heat(self) -> Fraction:
        """`hot_factor`, exact."""
        return Fraction(self.hot_factor).limit_denominator(1_000_000)

    @property
    def sequences_of_shards(self) -> list[int]:
        """`[S]`: sequences that each shard of the batch brings; they sum to S · `sequences_per_shard`."""
        if self.routing != "ragged-sources":
            return [self.sequences_per_shard] * self.num_shards
        shares = heated(self.num_shards, {self.hot_rank}, self.heat)
        return rounded(shares, self.num_shards * self.sequences_per_shard)

    def _check_hot(self) -> None:
        if self.routing not in DEALT_ROUTINGS or self.routing == "balanced":
            return
        per_shard = self.num_experts // self.num_shards
        most = self.num_shards * min(1.0, per_shard / self.experts_per_token)
        if self.num_shards < 2 or not 0 <= self.hot_factor <= most or not 0 <= self.hot_rank < self.num_shards:
            raise UsageError(
                f"rank {self.hot_rank} of {self.num_shards} cannot be {self.hot_factor} times hot",
                f"a token visits {self.experts_per_token} different experts: at least 2 ranks, "
                f"hot factor at most {most:g}, hot rank below {self.num_shards}",
            )
        if self.routing == "idle-experts" and self.num_experts - per_shard < self.experts_per_token:
            raise UsageError(
                f"a token cannot visit {self.experts_per_token} experts if {per_shard} of {self.num_experts} are idle",
                "give more experts or more ranks",
            )
        if self.routing == "ragged-sources":
            self._check_sources()

    def _check_sources(self) -> None:
        brought = self.sequences_of_shards
        if min(brought) < 1:
            raise UsageError(
                f"sources would bring {', '.join(map(str, brought))} sequences, and each needs one",
                "give a smaller hot factor or more sequences per shard",
            )
        if self.capacity_factor or self.experts_by == "tp":
            raise UsageError(
                "sources that bring different numbers of tokens have no capacity, and sliced experts gather equal parts",
                "leave the capacity factor out, and shard by ep",
            )

    def _check_sharding(self) -> None:
        if self.experts_by not in SHARDINGS:
            raise UsageError(f"experts cannot be sharded by '{self.experts_by}'", f"known: {', '.join(SHARDINGS)}")
        if self.experts_by == "tp" and self.expert_ffn_size % self.num_ranks:
            raise UsageError(
                f"experts of inner size {self.expert_ffn_size} cannot be sliced over {self.num_ranks} ranks",
                "choose a number of ranks that divides it",
            )
        if self.experts_by == "tp" and (self.pad_to_capacity or self.placement):
            raise UsageError(
                "experts sliced by tensor parallelism are on every rank: tokens do not travel to them",
                "leave the placement and the padding of buffers out, or shard by ep",
            )
        if self.experts_by == "tp" and any(fault.startswith("delay_link") for fault in self.faults):
            raise UsageError("sliced experts do not send to single ranks: a link cannot be slow", "shard by ep")
        if self.pad_to_capacity and not self.capacity_factor:
            raise UsageError("buffers can only be filled up to a capacity, and none is given", "give a capacity factor")

    def _check_placement(self) -> None:
        if not self.placement:
            return
        slots = self.num_experts // self.num_ranks
        for layer, ranks in enumerate(self.placement):
            each_once = sorted(expert for experts in ranks for expert in experts) == list(range(self.num_experts))
            if not each_once or [len(experts) for experts in ranks] != [slots] * self.num_ranks:
                raise UsageError(
                    f"layer {layer} of the placement does not put each of {self.num_experts} experts on one of "
                    f"{self.num_ranks} ranks, {slots} on each",
                    "plan it for this number of ranks, without redundant experts",
                )
        if len(self.placement) != self.num_layers:
            raise UsageError(
                f"the placement is of {len(self.placement)} layers, the model has {self.num_layers}",
                "plan it from a run of this model",
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class DenseSettings(RunSettings):
    """A dense model on one device (or replicated over several), always computing for real."""

    num_ranks: int = 1
    num_layers: int = 4
    hidden_size: int = 512
    num_heads: int = 8
    vocab_size: int = 512
    sequence_length: int = 256
    num_sequences: int = 4
    """Per rank and step."""
    gemm_side: int = 1536
    """Of the large square multiply whose rate is measured beside the model's own shapes."""


def encode(settings: RunSettings) -> str:
    """Settings as one line of JSON."""
    return msgspec.json.encode(settings).decode()


def resolve_compute_mode(kind: str, asked: str, num_ranks: int, num_cores: int, num_gpus: int) -> str:
    """`auto` becomes `real` where every rank and the launcher have a core of their own, or each rank a GPU.

    A dense job always computes for real. Raises `UsageError` if it is asked not to.
    """
    if kind == "dense" and asked == "paced":
        raise UsageError(
            "a dense job measures computation, and pacing would replace it by sleep", "leave --compute out"
        )
    if asked != "auto":
        return asked
    enough = num_gpus >= num_ranks or num_cores >= num_ranks + 1
    return "real" if enough or kind == "dense" else "paced"
