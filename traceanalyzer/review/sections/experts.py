"""`all_to_all` of `review.json`: loads, waits, what explains the imbalance, and what it costs."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from traceanalyzer.review.part import Part
from traceanalyzer.review.vocabulary import (
    Direction,
    ExchangeCause,
    ExpertCause,
    ExpertPass,
    ExpertRemedy,
    ExpertSharded,
    LinkPattern,
    LoadPattern,
    LoadSide,
    LoadsSource,
    LoadUnit,
    OwnScope,
    PortSide,
)


class LoadFigures(Part, frozen=True, kw_only=True):
    """How uneven loads are, each figure averaged over layers and steps."""

    unit: LoadUnit
    side: Annotated[LoadSide, Meta(description="Of token copies.")]
    max_over_mean: float
    max_vio: Annotated[float, Meta(description="max over mean − 1 (Wang et al. 2024).")]
    cv: Annotated[float, Meta(description="Population standard deviation over mean.")]
    gini: float
    entropy_share: Annotated[float, Meta(description="Entropy of the shares over its maximum; 1 is even.")]
    num_idle: Annotated[float, Meta(description="Members without a token, mean over layers and steps.")]


class HotSpot(Part, frozen=True, kw_only=True):
    """Who is hottest in one layer, and whether it stays the same."""

    layer: int | None
    group: list[int]
    unit: LoadUnit
    hottest: Annotated[int, Meta(description="Most tokens over all captured steps.")]
    persistent_share: Annotated[
        float | None, Meta(description="Part of the imbalance that is still there when steps are summed.")
    ]
    pattern: Annotated[LoadPattern | None, Meta(description="null below three steps.")]
    bursts: Annotated[list[int], Meta(description="Where imbalance comes in bursts: the steps that have it.")] = []


class ExchangeFigures(Part, frozen=True, kw_only=True):
    """All-to-alls of one direction and cause of slowness. Milliseconds per step, mean over steps, summed over ranks."""

    direction: Direction
    cause: Annotated[ExchangeCause, Meta(description="`compute`: a late member; `communication`: a slow transfer.")]
    num: int
    wait_ms: float
    transfer_ms: Annotated[float, Meta(description="Of the member with the longest transfer.")]


class ExpertBlame(Part, frozen=True, kw_only=True):
    """Wait that a rank caused at all-to-alls, by what it was doing. Per step, mean over steps, summed over waiters."""

    culprit: int
    cause: ExpertCause
    ms: float


class ExpertWorth(Part, frozen=True, kw_only=True):
    """What one remedy alone would take off the step; never added up."""

    remedy: ExpertRemedy
    ms: float


class SlowPort(Part, frozen=True, kw_only=True):
    """A rank whose transfers take longer than the run's own line says."""

    group: list[int]
    rank: int
    side: Annotated[PortSide, Meta(description="`row`: its sends; `column`: its receives.")]
    excess_us: Annotated[float, Meta(description="Median over all-to-alls.")]


class SlowLink(Part, frozen=True, kw_only=True):
    """What the slow transfers of a group look like in the matrix of senders and receivers."""

    group: list[int]
    pattern: Annotated[LinkPattern, Meta(description="`point`: one pair of ranks.")]
    sender: int | None
    receiver: int | None


class Volume(Part, frozen=True, kw_only=True):
    """Bytes one rank sends over links in one all-to-all of one layer, mean over ranks, layers and steps."""

    direction: Direction
    measured_bytes: float
    routed_bytes: Annotated[
        float | None, Meta(description="From the routing table and the declared hidden size and number format.")
    ]
    uniform_bytes: Annotated[float | None, Meta(description="k·T·h·b·(n − 1)/n, routing taken as uniform.")]
    deduplicated_bytes: Annotated[float | None, Meta(description="If a token travelled once to each rank.")]
    padded_bytes: Annotated[
        float | None, Meta(description="With every expert's buffer filled up to its capacity; null if it is not.")
    ] = None


class VolumeTheory(Part, frozen=True, kw_only=True):
    """Forward bytes per rank and layer of the same experts by expert and by tensor parallelism."""

    expert_parallel_bytes: Annotated[float, Meta(description="Dispatch and combine: 2·k·(S/n)·(n − 1)/n.")]
    tensor_parallel_bytes: Annotated[float, Meta(description="One ring all-reduce: 2·(n − 1)/n·S.")]
    tensor_over_expert: Annotated[float, Meta(description="n/k.")]
    popular_over_ranks_bytes: Annotated[
        float, Meta(description="The popular 2kS/N with N = ranks: (n − 1)/n of it crosses links.")
    ]
    popular_over_experts_bytes: Annotated[
        float, Meta(description="The same with N = experts, as it is often read: E/n times too small.")
    ]
    capacity_slots: Annotated[
        int | None, Meta(description="Slots of an expert for the tokens of one rank; null without a capacity factor.")
    ] = None
    distinct_nodes: Annotated[
        float | None, Meta(description="Mean number of nodes among a token's experts; null within one node.")
    ] = None
    between_nodes_bytes: Annotated[
        float | None, Meta(description="Forward, if a token travelled once to each node; null within one node.")
    ] = None


class ExpertGemm(Part, frozen=True, kw_only=True):
    """Matrix multiplications of the experts of one kind: `[rows, inner] · [inner, columns]`."""

    part: Annotated[ExpertPass, Meta(description="`experts`: forward; `experts_backward`: all its shapes together.")]
    rows: Annotated[float | None, Meta(description="Median; null backward.")]
    inner: int | None
    columns: int | None
    num_calls: int
    flops_per_second: Annotated[float, Meta(description="FLOPs by shape ÷ time in these operators.")]


class ExpertSharding(Part, frozen=True, kw_only=True):
    """Experts sharded whole or in slices: forward bytes of one rank and layer, measured and by theory."""

    sharded_by: Annotated[
        ExpertSharded, Meta(description="`ep`: whole experts on every rank; `tp`: a slice of every expert.")
    ]
    num_ranks: int
    measured_bytes: Annotated[
        float, Meta(description="Over links, mean over ranks, layers and steps; gather and reduce counted as rings.")
    ]
    expert_parallel_bytes: Annotated[float | None, Meta(description="2·k·(S/n)·(n − 1)/n at the declared tokens.")]
    tensor_parallel_bytes: Annotated[float | None, Meta(description="2·(n − 1)/n·S at the declared tokens.")]
    gemms: Annotated[list[ExpertGemm], Meta(description="Empty in paced runs and if no shapes were recorded.")] = []


class PlacementAdvice(Part, frozen=True, kw_only=True):
    """What another placement of the experts would do to the ranks' loads."""

    rank_load_before: Annotated[float, Meta(description="Largest over mean load, mean over layers and steps.")]
    rank_load_after: Annotated[
        float, Meta(description="With the proposed placement, on steps it was not made from if there are several.")
    ]
    held_out: Annotated[bool, Meta(description="Each step was judged by a placement made from the other steps.")]
    num_redundant: int
    saved_ms: Annotated[float | None, Meta(description="Of the worth of balanced experts, by the loads' excess.")]
    num_moved: Annotated[int, Meta(description="Experts that leave their rank, summed over layers.")]


class OwnLoads(Part, frozen=True, kw_only=True):
    """What one rank says of its own all-to-alls where not all ranks do; no ratio over ranks follows from it."""

    rank: int
    num_all_to_all: int
    scope: OwnScope
    num_ranks_known: Annotated[int, Meta(description="Ranks whose split sizes are known.")]
    num_ranks: Annotated[int, Meta(description="Members of the exchanges.")]
    sent_bytes: int
    received_bytes: int
    sent_max_over_mean: Annotated[
        float, Meta(description="Largest over mean part sent to a member, in its most uneven one.")
    ]
    received_max_over_mean: float
    sent_max_over_min: Annotated[float | None, Meta(description="Largest over smallest part; null if one is empty.")]


class AllToAllGroup(Part, frozen=True, kw_only=True):
    """One expert group."""

    ranks: list[int]
    num_all_to_all: int
    rank_load_max_over_mean: float | None
    expert_load_max_over_mean: float | None
    rank_load_max_over_mean_from_splits: Annotated[
        float | None, Meta(description="The same from the split sizes in the traces alone.")
    ]
    combine_wait_ms: Annotated[float | None, Meta(description="Wait at combine, summed over the group; median step.")]
    wait_ms: Annotated[float | None, Meta(description="Wait at every all-to-all, summed over the group; median step.")]
    transfer_ms: float | None


class AllToAllTheory(Part, frozen=True, kw_only=True):
    """What balance and chance would give."""

    balanced_max_over_mean: float
    chance_rank: Annotated[float | None, Meta(description="Expected load ratio of ranks with an unbiased router.")]
    chance_rank_low: float | None
    chance_rank_high: float | None
    chance_expert: float | None
    chance_expert_low: float | None
    chance_expert_high: float | None
    chance_coverage: float | None
    chance_cv_rank: Annotated[float | None, Meta(description="Expected coefficient of variation of ranks' loads.")] = (
        None
    )
    chance_cv_expert: Annotated[float | None, Meta(description="Floor of experts: sqrt((1 − k/E)/(Tk/E)).")] = None
    combine_wait_ms: Annotated[
        float | None, Meta(description="Σ(largest - own tokens) × measured time per token, over layers and ranks.")
    ]
    time_per_token_us: Annotated[
        float | None, Meta(description="Measured forward expert time per computed row: received tokens and padding.")
    ]


class AllToAll(Part, frozen=True, kw_only=True):
    """All-to-all imbalance. Shares are of rank-step time summed over ranks; loads are received token copies."""

    groups: list[AllToAllGroup]
    wait_share: float | None
    transfer_share: float | None
    exposed_share: Annotated[
        float | None, Meta(description="All-to-all time (barriers of expert kernels included) outside computation.")
    ]
    rank_load_max_over_mean: Annotated[float | None, Meta(description="Mean over layers and steps.")]
    expert_load_max_over_mean: float | None
    chance_max_over_mean: Annotated[float | None, Meta(description="Of ranks, by chance alone.")]
    slowest_rank: int | None
    imbalance_cost_ms: Annotated[
        float | None, Meta(description="Σ over layers of slowest rank's expert time beyond the mean; median step.")
    ]
    imbalance_cost_spread_ms: Annotated[float | None, Meta(description="Interquartile range of it over steps.")]
    bus_bandwidth_gbps: Annotated[float | None, Meta(description="GB/s as nccl-tests count it, median; devices only.")]
    loads_source: Annotated[
        LoadsSource | None,
        Meta(description="`unpaired_splits`: of all-to-alls without a partner; `bytes`: split lists were cut."),
    ]
    theory: AllToAllTheory | None
    overlapped_share: Annotated[float | None, Meta(description="Part of all-to-all time that computation covers.")] = (
        None
    )
    loads: list[LoadFigures] = []
    hot_spots: list[HotSpot] = []
    idle_experts: Annotated[
        list[int], Meta(description="Experts that no token visited in any captured step and layer.")
    ] = []
    fullest_source: Annotated[int | None, Meta(description="The rank that sent most token copies in all steps.")] = None
    own_loads: Annotated[list[OwnLoads], Meta(description="From execution traces beside the profiler traces.")] = []
    exchanges: list[ExchangeFigures] = []
    blame: list[ExpertBlame] = []
    worth: list[ExpertWorth] = []
    replayed_step_ms: Annotated[float | None, Meta(description="Step time of the replay that worth comes from.")] = None
    slow_ports: list[SlowPort] = []
    slow_links: list[SlowLink] = []
    link_share: Annotated[
        float | None, Meta(description="Bus bandwidth ÷ published peak of the link, median; null if unknown.")
    ] = None
    volumes: list[Volume] = []
    volume_theory: VolumeTheory | None = None
    placement: PlacementAdvice | None = None
    dispatch_at_peak_us: Annotated[
        float | None, Meta(description="Mean dispatch by its bytes over the peak of each rank's links, no latency.")
    ] = None
    dispatch_transfer_us: Annotated[
        float | None, Meta(description="Measured: longest member's transfer, median over dispatches.")
    ] = None
    count_exchange_ms: Annotated[
        float | None, Meta(description="Exchange of token counts, wait included; per step, summed over ranks.")
    ] = None
    router_ms: Annotated[float | None, Meta(description="Choosing experts, forward; per step, summed over ranks.")] = (
        None
    )
    permutation_ms: Annotated[
        float | None, Meta(description="Sorting tokens by expert and back, forward; per step, summed over ranks.")
    ] = None
    dropped_tokens: Annotated[int | None, Meta(description="Token copies dropped in the captured steps.")] = None
    dropped_share: Annotated[float | None, Meta(description="Of all token copies that were routed.")] = None
    padded_rows: Annotated[
        int | None, Meta(description="Rows that experts compute and no token fills; per step, summed over ranks.")
    ] = None
    padded_share: Annotated[float | None, Meta(description="Of all rows that experts compute.")] = None
    padding_ms: Annotated[
        float | None,
        Meta(description="That part of the expert time, forward and backward; per step, summed over ranks."),
    ] = None
    num_unreadable_splits: Annotated[int, Meta(description="All-to-alls whose split list is missing or was cut.")] = 0
