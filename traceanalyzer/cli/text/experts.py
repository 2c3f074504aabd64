"""The all-to-all section of a review as text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

_SHOWN = 4
_REMEDIES = {
    "balanced_experts": "balanced experts",
    "repaired_link": "no transfer slower than the run's own",
    "full_overlap": "transfers hidden behind computation",
}
_CAUSES = {
    "experts": "expert computation",
    "other_compute": "other computation",
    "transfer": "its transfer before",
    "before": "starting the step late",
    "host": "its host (neither computing nor in a collective)",
}


def expert_lines(figures: Mapping[str, Any] | None) -> Iterator[str]:
    """Loads, who is hot, why all-to-alls took long, who is to blame, what remedies are worth, bytes against theory."""
    if figures is None:
        return
    yield from _loads(figures)
    yield from _hot(figures["hot_spots"])
    yield from _own(figures["own_loads"])
    yield from _blame(figures)
    yield from _worth(figures)
    yield from _overheads(figures)
    yield from _volumes(figures)


def sharding_lines(figures: Mapping[str, Any] | None) -> Iterator[str]:
    """Bytes of an expert layer's forward pass and the rate of its GEMMs, by this sharding and the other."""
    if figures is None:
        return
    by_slices = figures["sharded_by"] == "tp"
    how = "slices of every expert (TP)" if by_slices else "whole experts (EP)"
    line = f"Experts over {figures['num_ranks']} ranks as {how}: {figures['measured_bytes']:,.0f} bytes sent per rank, layer and forward"
    if figures["tensor_parallel_bytes"] is not None:
        line += f"; theory EP {figures['expert_parallel_bytes']:,.0f}, TP {figures['tensor_parallel_bytes']:,.0f}"
    yield line
    for row in figures["gemms"]:
        rate = f"{row['flops_per_second'] / 1e9:.1f} GFLOP/s"
        if row["rows"] is None:
            yield f"  expert GEMMs backward: {rate} over {row['num_calls']:,} calls"
        else:
            yield f"  expert GEMMs {row['rows']:,.0f}×{row['inner']}×{row['columns']}: {rate} over {row['num_calls']:,} calls"


def _overheads(figures: Mapping[str, Any]) -> Iterator[str]:
    """What routing, permutation, counts, padding and drops cost."""
    named = {"router": "choosing experts", "permutation": "permutation", "count_exchange": "exchange of counts"}
    told = [f"{name} {figures[f'{key}_ms']:.1f} ms" for key, name in named.items() if figures[f"{key}_ms"] is not None]
    if told:
        yield "Beside the experts, per step, summed over ranks: " + ", ".join(told)
    if figures["dropped_tokens"]:
        yield f"  dropped: {figures['dropped_tokens']:,} token copies ({100 * figures['dropped_share']:.1f}% of those routed)"
    if figures["padded_rows"]:
        cost = "" if figures["padding_ms"] is None else f", {figures['padding_ms']:.1f} ms of expert time"
        yield (
            f"  padding: {figures['padded_rows']:,} rows per step that no token fills "
            f"({100 * figures['padded_share']:.1f}% of all{cost})"
        )


def _loads(figures: Mapping[str, Any]) -> Iterator[str]:
    if figures["loads"]:
        yield "Expert load               max/mean     CV    Gini  entropy   idle"
    for row in figures["loads"]:
        name = f"{row['side']} per {row['unit']}"
        yield (
            f"  {name:<22}{row['max_over_mean']:>9.2f}×{row['cv']:>8.3f}{row['gini']:>8.3f}"
            f"{row['entropy_share']:>9.3f}{row['num_idle']:>7.1f}"
        )


def _own(rows: list[Mapping[str, Any]]) -> Iterator[str]:
    if rows:
        known, total = rows[0]["num_ranks_known"], rows[0]["num_ranks"]
        yield f"Own loads of {known} of {total} ranks (execution traces); no ratio over ranks follows from them"
    for row in rows:
        yield (
            f"  rank {row['rank']}: {row['num_all_to_all']} all-to-alls, {row['sent_bytes']:,} bytes sent, "
            f"{row['received_bytes']:,} received; most uneven one sends {row['sent_max_over_mean']:.2f}× its mean to a member"
        )


def _hot(spots: list[Mapping[str, Any]]) -> Iterator[str]:
    told = [spot for spot in spots if spot["unit"] == "rank" and spot["pattern"] is not None]
    for spot in told[:_SHOWN]:
        yield (
            f"  layer {spot['layer']}: rank {spot['hottest']} is fullest over all steps; {spot['pattern']} "
            f"({100 * spot['persistent_share']:.0f}% of the imbalance stays in place)"
        )
    if len(told) > _SHOWN:
        yield f"  and {len(told) - _SHOWN} more layers or groups"


def _blame(figures: Mapping[str, Any]) -> Iterator[str]:
    kinds: dict[str, int] = {}
    for row in figures["exchanges"]:
        kinds[row["cause"]] = kinds.get(row["cause"], 0) + row["num"]
    if kinds:
        names = {"compute": "a late member", "communication": "a slow transfer", "mixed": "both", "even": "neither"}
        yield "All-to-alls held up by " + ", ".join(f"{names[kind]}: {num}" for kind, num in sorted(kinds.items()))
    for row in figures["blame"][:_SHOWN]:
        yield f"  {row['ms']:>9.1f} ms of waiting per step, summed over ranks, for rank {row['culprit']}: {_CAUSES[row['cause']]}"


def _worth(figures: Mapping[str, Any]) -> Iterator[str]:
    if figures["worth"]:
        yield "Each alone would take off the step (by replay)"
    for row in figures["worth"]:
        yield f"  {row['ms']:>9.1f} ms  {_REMEDIES[row['remedy']]}"
    placement = figures["placement"]
    if placement is not None and placement["saved_ms"] is not None:
        after = f"{placement['rank_load_before']:.2f}× to {placement['rank_load_after']:.2f}×"
        yield f"  {placement['saved_ms']:>9.1f} ms  of the first by another placement of experts ({after})"


def _volumes(figures: Mapping[str, Any]) -> Iterator[str]:
    if figures["volumes"]:
        yield "Bytes a rank sends per all-to-all and layer"
    for row in figures["volumes"]:
        routed = "" if row["routed_bytes"] is None else f", {row['routed_bytes']:,.0f} by the routing table"
        uniform = "" if row["uniform_bytes"] is None else f", {row['uniform_bytes']:,.0f} by theory (uniform routing)"
        padded = "" if row["padded_bytes"] is None else f", {row['padded_bytes']:,.0f} with full buffers"
        yield f"  {row['direction']:<18}{row['measured_bytes']:>14,.0f}{routed}{uniform}{padded}"
    if figures["dispatch_at_peak_us"] is not None and figures["dispatch_transfer_us"] is not None:
        yield (
            f"  dispatch takes {figures['dispatch_transfer_us']:,.0f} µs, its bytes at the links' peak "
            f"{figures['dispatch_at_peak_us']:,.0f} µs (no latency)"
        )
    theory = figures["volume_theory"]
    if theory is not None:
        yield (
            f"  forward by expert parallelism {theory['expert_parallel_bytes']:,.0f}, by tensor parallelism "
            f"{theory['tensor_parallel_bytes']:,.0f}: {theory['tensor_over_expert']:.2f} times as much"
        )
        yield (
            f"  the popular 2kS/N says {theory['popular_over_ranks_bytes']:,.0f} with N = ranks and "
            f"{theory['popular_over_experts_bytes']:,.0f} with N = experts"
        )
    if theory is not None and theory["between_nodes_bytes"] is not None:
        yield (
            f"  a token's experts lie on {theory['distinct_nodes']:.2f} nodes: {theory['between_nodes_bytes']:,.0f} between "
            "nodes if it travelled once to each"
        )
