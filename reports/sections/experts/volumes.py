"""Bytes that expert layers send, beside theory, and the matrix multiplications of the experts."""

from __future__ import annotations

from reports.page.grids import figures, grid
from reports.page.model import Part
from traceanalyzer.review import AllToAll, ExpertSharding
from traceanalyzer.review.words import digits, spaced, times


def volumes(measured: AllToAll) -> list[Part | None]:
    """What a rank sends in one all-to-all, and what parallelism by experts and by tensors would send."""
    sent = grid(
        "volumes",
        "Bytes a rank sends in one all-to-all of one layer",
        measured.volumes,
        [
            ("direction", lambda v: spaced(v.direction), None),
            ("measured", lambda v: v.measured_bytes, "bytes"),
            ("from routing", lambda v: v.routed_bytes, "bytes"),
            ("if routing were uniform", lambda v: v.uniform_bytes, "bytes"),
            ("once per rank", lambda v: v.deduplicated_bytes, "bytes"),
            ("full buffers", lambda v: v.padded_bytes, "bytes"),
        ],
        half=True,
    )
    theory = measured.volume_theory
    if theory is None:
        return [sent]
    nodes = f" ({digits(theory.distinct_nodes)} nodes per token)" if theory.distinct_nodes is not None else ""
    forward = figures(
        "Theory: bytes per rank and layer, forward",
        [
            ("By expert parallelism", theory.expert_parallel_bytes, "bytes"),
            ("By tensor parallelism", theory.tensor_parallel_bytes, "bytes"),
            ("Tensor ÷ expert parallelism", times(theory.tensor_over_expert)),
            ("Popular formula 2kS/N, N ranks", theory.popular_over_ranks_bytes, "bytes"),
            ("Popular formula 2kS/N, N experts", theory.popular_over_experts_bytes, "bytes"),
            (f"Between nodes, once per node{nodes}", theory.between_nodes_bytes, "bytes"),
        ],
    )
    return [sent, forward]


def sharding(found: ExpertSharding | None) -> list[Part | None]:
    """Bytes of an expert layer by EP and by TP, and the rate of its matrix multiplications."""
    if found is None:
        return []
    how = "slices of every expert (TP)" if found.sharded_by == "tp" else "whole experts (EP)"
    facts = figures(
        "Sharded by EP or by TP",
        [
            ("This run", f"{how}, {found.num_ranks:,} ranks"),
            ("Sent per rank, layer and forward", found.measured_bytes, "bytes"),
            ("By EP, theory", found.expert_parallel_bytes, "bytes"),
            ("By TP, theory", found.tensor_parallel_bytes, "bytes"),
        ],
    )
    gemms = grid(
        "expert-gemms",
        "Expert GEMMs by shape",
        found.gemms,
        [
            ("pass", lambda g: "backward" if g.part == "experts_backward" else "forward", None),
            ("rows", lambda g: g.rows, "count"),
            ("inner", lambda g: g.inner, "count"),
            ("columns", lambda g: g.columns, "count"),
            ("calls", lambda g: g.num_calls, "count"),
            ("reached", lambda g: g.flops_per_second, "flops_per_second"),
        ],
        half=True,
    )
    return [facts, gemms]
