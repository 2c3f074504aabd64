"""What is planted: a job, its faults, and the order in which every rank runs its actions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

EPOCH_NS = 1_790_857_026_000_000_000
"""Start of the simulation on the perfect clock."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """A training job. Times are per microbatch and rank (all its chunks together)."""

    schedule: str = "1F1B"
    """`1F1B`, `GPipe`, `Interleaved1F1B` or `ZeroBubble` (input and weight gradients apart, the latter put off)."""
    pp: int = 4
    dp: int = 1
    ep: int = 1
    num_chunks: int = 1
    num_microbatches: int = 8
    num_steps: int = 2
    """Captured steps; one more runs before them."""
    ranks_per_host: int = 8
    framework: str = "plain"
    """Whose folders, file names and group names are written: `plain`, `torchtitan` or `megatron`."""
    labels: str | None = "runtime"
    """`runtime`: torch's `PP:2F0`, `PP:2RECV_F0`; `own`: `compute:2F0`; `gpipe`: torch's GPipe's `Forward 0`; None: no
    ranges, as Megatron-LM."""
    coalesced: bool = False
    """Send and receive leave as one kernel without arguments (`batch_isend_irecv`); not with `Interleaved1F1B`."""
    early_receives: int = 1
    """A receive is posted this many actions before the one that needs it; 0: just before. Not when `coalesced`."""
    metadata: str = "2026"
    """Arguments of kernels: `2026` with `Seq` and `Comms Id`, `2024` without, `2022` none at all."""
    steps_ahead: int = 1
    """How many steps the CPU runs ahead of the device; 0: it waits at the end of every step."""
    forward_ns: int = 2_000_000
    backward_ns: int = 4_000_000
    optimizer_ns: int = 500_000
    kernels_per_action: int = 4
    gemm_shapes: tuple[str, ...] = ()
    """Sizes of the factors of the matrix multiplications of an action in turn, recorded as torch does: `64x32 32x16`."""
    p2p_bytes: int = 16 << 20
    gradient_bytes: int = 64 << 20
    """All-reduced over the replicas after the last backward (if dp > 1)."""
    gradient_buckets: int = 1
    overlapped: str | None = None
    """`last`: the last microbatch's backward all-reduces its buckets as they come (DDP); `each`: every backward
    reduce-scatters them (ZeRO-2); `never`: no gradient is
    reduced. None: one all-reduce after everything."""
    overlap_slowdown: float = 1.0
    """Factor on computation that follows a bucket in the same backward."""
    sharded: bool = False
    """Parameters are gathered before every action and gradients reduce-scattered after every backward (FSDP2)."""
    gather_bytes: int = 8 << 20
    tail_exchange_bytes: int = 0
    """Bytes of an even all-to-all of the expert group that ends every action, forward and backward."""
    tensor: int = 1
    """Consecutive replicas of a stage that all-reduce inside every action, twice."""
    context: int = 1
    """Consecutive replicas of a stage that pass keys and values round a ring in every action."""
    context_layout: str = "zigzag"
    """`zigzag`: causal attention is even; `contiguous`: member i of c has (2i + 1) / c of the mean."""
    attention_share: float = 0.5
    """Of an action's computation, where `context` is more than one."""
    tables_bytes: int = 0
    """Bytes of an all-to-all of the whole stage before and after every action, as of embedding tables; its splits vary."""
    described: bool = True
    """Groups have descriptions; else all are `undefined`."""
    global_norm: bool = True
    """A small all-reduce over the whole job closes every step."""
    eager_bytes: int = 0
    """Messages up to this size leave without waiting for their receiver."""
    moe_layers: int = 0
    """Expert layers per chunk: dispatch, experts, combine; in backward again."""
    moe_tokens: int = 4096
    """Token copies each rank sends per layer."""
    moe_hot_share: float = 0.0
    """Share of every rank's tokens that goes to the first member of the group; the rest is spread evenly."""
    moe_silent: bool = False
    """Neighbouring members (0 and 1, 2 and 3, ...) exchange nothing."""
    token_bytes: int = 8192
    expert_ns_per_token: int = 150
    even_exchange: bool = False
    """Every expert exchange is an even all-to-all without split sizes."""
    cuda_graphs: bool = False
    """The kernels of an action leave with one `cudaGraphLaunch`."""
    bytes_per_second: float = 200e9
    """Link of every rank inside a host, one direction."""
    bytes_per_second_between_hosts: float = 25e9
    latency_ns: int = 8_000
    launch_ns: int = 5_000
    """Length of a launch call."""
    launch_latency_ns: int = 3_000
    device: str = "NVIDIA H100 80GB HBM3"

    @property
    def world_size(self) -> int:
        return self.pp * self.dp

    @property
    def num_stages(self) -> int:
        return self.pp * self.num_chunks

    def host(self, rank: int) -> int:
        return rank // self.ranks_per_host

    def pipeline(self, replica: int) -> list[int]:
        return [position * self.dp + replica for position in range(self.pp)]

    def stage_group(self, rank: int) -> list[int]:
        """The replicas of the rank's stages."""
        first = rank // self.dp * self.dp
        return list(range(first, first + self.dp))

    def part_group(self, rank: int, size: int) -> list[int]:
        """The `size` consecutive replicas of a stage that hold the rank."""
        first = rank // size * size
        return list(range(first, first + size))

    def expert_group(self, rank: int) -> list[int]:
        first = rank // self.ep * self.ep
        return list(range(first, first + self.ep))


@dataclass(frozen=True, kw_only=True)
class Faults:
    """What goes wrong, by rank. Everything that is not named is healthy."""

    slow_compute: Mapping[int, float] = field(default_factory=dict)
    """Factor on the duration of the rank's computation."""
    slow_shape: Mapping[str, float] = field(default_factory=dict)
    """Factor on kernels of `Job.gemm_shapes`, by shape."""
    slow_link: Mapping[int, float] = field(default_factory=dict)
    """Factor on the time of every transfer that the rank takes part in."""
    seed: int = 0
    """Of chance below: the same job with another seed is another run."""
    varying_compute: float = 0.0
    """Every action's computation takes up to this share longer, by chance."""
    varying_transfer: float = 0.0
    """Every message and collective takes up to this share longer, by chance."""
    more_kernels: Mapping[int, int] = field(default_factory=dict)
    """So many kernels more in every action of the rank, each as long as one of the others."""
    slow_launch_ns: Mapping[int, int] = field(default_factory=dict)
    """The CPU of the rank takes so much longer before every launch of a computation."""
    late_start_ns: Mapping[int, int] = field(default_factory=dict)
    """The device of the rank begins every action's computation so much later than it could; nothing records why."""
    loading_ns: Mapping[int, int] = field(default_factory=dict)
    """The CPU of the rank fetches data for so long at the start of every step."""
    stall_call: str | None = None
    """What the CPU is in while it stalls; None: nothing is recorded."""
    host_stall_ns: Mapping[tuple[int, int, int], int] = field(default_factory=dict)
    """The CPU of (rank, step, action position) does nothing for this long before it issues the action."""
    slow_action_ns: Mapping[tuple[int, int, int], int] = field(default_factory=dict)
    """The computation of (rank, step, action position) lasts this much longer."""
    clock_offset_ns: Mapping[int, int] = field(default_factory=dict)
    clock_drift_ppm: Mapping[int, float] = field(default_factory=dict)
    head_cut_ns: Mapping[int, int] = field(default_factory=dict)
    """The rank's capture lacks everything that begins in this time after the start of its first captured step."""
    missing_ranks: frozenset[int] = frozenset()
    """No trace is written for them."""

    @property
    def run(self) -> tuple[int, ...]:
        """What chance depends on besides the place: nothing for the first run."""
        return (self.seed,) if self.seed else ()


Action = tuple[str, int, int]
"""Phase (F and B, or F, I and W), stage, microbatch."""


def orders(job: Job) -> list[list[Action]]:
    """The actions of every pipeline position, in order."""
    return [_order(job, position) for position in range(job.pp)]


def _order(job: Job, position: int) -> list[Action]:
    num = job.num_microbatches
    if job.schedule == "GPipe":
        return [(phase, position, mb) for phase in "FB" for mb in range(num)]
    if job.schedule == "1F1B":
        warmup = min(num, job.pp - 1 - position)
        return _alternate(
            [("F", position, mb) for mb in range(num)], [("B", position, mb) for mb in range(num)], warmup
        )
    if job.schedule == "ZeroBubble":
        return _zero_bubble(job, position)
    if job.schedule != "Interleaved1F1B" or num % job.pp or job.coalesced:
        message = f"cannot plant {job.schedule} with {num} microbatches on {job.pp} ranks"
        raise ValueError(message)
    chunks = job.num_chunks
    block = job.pp * chunks

    def action(phase: str, k: int) -> Action:
        chunk = k % block // job.pp
        chunk = chunk if phase == "F" else chunks - 1 - chunk
        return phase, chunk * job.pp + position, k // block * job.pp + k % job.pp

    total = num * chunks
    warmup = min(total, (job.pp - position - 1) * 2 + (chunks - 1) * job.pp)
    return _alternate([action("F", k) for k in range(total)], [action("B", k) for k in range(total)], warmup)


def _zero_bubble(job: Job, position: int) -> list[Action]:
    """1F1B with halved backwards: the weight gradient follows `position` microbatches after the input gradient."""
    num = job.num_microbatches
    warmup = min(num, job.pp - position)
    order = [("F", position, mb) for mb in range(warmup)]
    for mb in range(num):
        order.append(("I", position, mb))
        if mb >= position:
            order.append(("W", position, mb - position))
        if warmup + mb < num:
            order.append(("F", position, warmup + mb))
    return order + [("W", position, mb) for mb in range(max(0, num - position), num)]


def _alternate(forwards: list[Action], backwards: list[Action], warmup: int) -> list[Action]:
    steady = len(forwards) - warmup
    pairs = [op for i in range(steady) for op in (forwards[warmup + i], backwards[i])]
    return forwards[:warmup] + pairs + backwards[steady:]
