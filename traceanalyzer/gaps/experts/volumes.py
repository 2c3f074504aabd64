"""Bytes and times of all-to-alls against theory: what was sent beside what routing, capacity and topology say."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from traceanalyzer.errors import TraceAnalyzerError
from traceanalyzer.job import Job
from traceanalyzer.measurements.experts.all_to_all import complete_layers
from traceanalyzer.measurements.experts.traffic import EXCHANGE, byte_loads
from traceanalyzer.model import ModelShape
from traceanalyzer.review import Volume, VolumeTheory, Withheld
from traceanalyzer.theory.experts.network import Port, Topology, all_to_all_ns
from traceanalyzer.theory.experts.volumes import (
    ExpertLayer,
    all_to_all_bytes,
    capacity,
    deduplicated_bytes,
    distinct_destinations,
    expert_parallel_bytes,
    node_limited_destinations,
    padded_all_to_all_bytes,
    popular_bytes,
    tensor_over_expert_parallel,
    tensor_parallel_bytes,
)

BYTES = {"float32": 4, "float64": 8, "bfloat16": 2, "float16": 2}
"""Of one element; other formats are not priced."""


def volumes(
    matrix: pl.DataFrame, routing: pl.DataFrame, hosts: dict[int, str | None], job: Job | None
) -> tuple[list[Volume], VolumeTheory | None]:
    """Measured bytes per all-to-all (`TRAFFIC`) beside theory's, and what other ways would send.

    `routing` is `ROUTING`; `hosts` of ranks, where known.
    """
    crossing = byte_loads(matrix.filter(pl.col("layer").is_not_null() & (pl.col("direction") != "count_exchange")))
    measured = crossing.group_by(pl.col("direction").cast(pl.String)).agg(pl.col("sent_bytes").mean())
    layer = _layer_of(routing, job)
    routed = None if layer is None else _routed_bytes(complete_layers(routing), layer)
    factor = None if job is None or not job.pads_to_capacity else job.capacity_factor
    found = [
        Volume(
            direction=direction,
            measured_bytes=sent,
            routed_bytes=routed,
            uniform_bytes=None if layer is None else all_to_all_bytes(layer),
            deduplicated_bytes=None if layer is None else deduplicated_bytes(layer),
            padded_bytes=None if layer is None or factor is None else padded_all_to_all_bytes(layer, factor),
        )
        for direction, sent in measured.sort("direction").iter_rows()
    ]
    if layer is None or job is None:
        return found, None
    members = [int(rank) for rank in str(routing["group"][0]).split(",")]
    return found, volume_theory(layer, job, _num_hosts(members, hosts))


def volume_theory(layer: ExpertLayer, job: Job, num_hosts: int | None) -> VolumeTheory:
    """Forward bytes of one rank and layer by different ways; `num_hosts` of its group, None if not known."""
    nodes = num_hosts if num_hosts and num_hosts > 1 and layer.num_experts % num_hosts == 0 else None
    distinct = None if nodes is None else _distinct_nodes(job.model, nodes)
    return VolumeTheory(
        expert_parallel_bytes=expert_parallel_bytes(layer),
        tensor_parallel_bytes=tensor_parallel_bytes(layer),
        tensor_over_expert=tensor_over_expert_parallel(layer),
        popular_over_ranks_bytes=popular_bytes(layer, layer.num_ranks),
        popular_over_experts_bytes=popular_bytes(layer, layer.num_experts),
        capacity_slots=None if job.capacity_factor is None else capacity(layer, job.capacity_factor),
        distinct_nodes=distinct,
        between_nodes_bytes=None
        if nodes is None or distinct is None
        else 2 * distinct * layer.tokens_per_rank * layer.token_bytes * (nodes - 1) / nodes,
    )


def layer_shape(tokens_per_rank: float, num_ranks: int, job: Job | None) -> ExpertLayer | None:
    """The declared expert layer over `num_ranks` ranks; None if it is not declared or does not split evenly."""
    if job is None or not job.model.num_experts or job.dtype.removeprefix("torch.") not in BYTES:
        return None
    try:
        return ExpertLayer(
            tokens_per_rank=round(tokens_per_rank),
            experts_per_token=job.model.experts_per_token,
            num_experts=job.model.num_experts,
            hidden_size=job.model.expert_latent_size or job.model.hidden_size,
            bytes_per_element=BYTES[job.dtype.removeprefix("torch.")],
            num_ranks=num_ranks,
        )
    except TraceAnalyzerError:
        return None


def dispatch_at_peak(
    matrix: pl.DataFrame, ports: pl.DataFrame, network_bytes_per_second: float | None
) -> tuple[float | None, list[Withheld]]:
    """Microseconds of the mean dispatch (`TRAFFIC`) of the busiest group at the peak of its links, no latency.

    `ports` is `links`. Between hosts the declared `network_bytes_per_second` of a rank counts. None, with the reason,
    where a link's peak is not known or ranks of a group are not alike.
    """
    dispatched = matrix.filter(pl.col("direction") == "dispatch")
    known = {rank: (host, peak) for rank, host, peak in ports.iter_rows()}
    times: list[float] = []
    for (group,), part in dispatched.sort("group").group_by("group", maintain_order=True):
        members = [int(rank) for rank in str(group).split(",")]
        topology = _topology([known.get(rank, (None, None)) for rank in members], network_bytes_per_second)
        if isinstance(topology, str):
            return None, [Withheld(metric="all_to_all.dispatch_at_peak_us", reason=topology)]
        members = sorted(members, key=lambda rank: (str(known[rank][0]), rank))
        mean = part.group_by("source", "target").agg(pl.col("bytes").sum() / part.select(EXCHANGE).n_unique())
        cells = {(source, target): num_bytes for source, target, num_bytes in mean.iter_rows()}
        sent = [[cells.get((source, target), 0.0) for target in members] for source in members]
        times.append(float(all_to_all_ns(sent, topology).max()))
    return (max(times) / 1e3 if times else None), []


def dispatch_transfer_us(exchanges: pl.DataFrame) -> float | None:
    """Median over dispatches (`EXCHANGES`) of the longest member's transfer, in microseconds; None without any."""
    median = exchanges.filter(pl.col("direction") == "dispatch")["transfer_ns"].median()
    return float(median) / 1e3 if isinstance(median, int | float) else None


def _topology(places: Sequence[tuple[str | None, float | None]], network: float | None) -> Topology | str:
    """The topology of a group from host and link peak of its members, or why it is not known."""
    hosts = [host for host, _ in places]
    peaks = {peak for _, peak in places}
    if None in hosts:
        return "the host of a rank is not known"
    if len(peaks) != 1 or None in peaks:
        return "the peak of the links between the ranks is not known, or differs between them"
    sizes = {hosts.count(host) for host in hosts}
    near = Port(0.0, float(str(peaks.pop())))
    if len(set(hosts)) == 1:
        return Topology(len(hosts), near)
    if len(sizes) != 1:
        return "the ranks of the group are not spread evenly over its hosts"
    if network is None:
        return "the network between the hosts is not known: declare hardware.network_bytes_per_second"
    return Topology(sizes.pop(), near, Port(0.0, network))


def _num_hosts(members: Sequence[int], hosts: dict[int, str | None]) -> int | None:
    found = {hosts.get(rank) for rank in members}
    return None if None in found else len(found)


def _distinct_nodes(model: ModelShape, num_nodes: int) -> float | None:
    """Mean number of nodes among a token's experts, group-limited routing taken into account where groups are nodes."""
    try:
        if model.groups_per_token and model.expert_groups == num_nodes:
            return node_limited_destinations(
                model.num_experts, model.experts_per_token, num_nodes, model.groups_per_token
            )
        return distinct_destinations(model.num_experts, model.experts_per_token, num_nodes)
    except TraceAnalyzerError:
        return None


def _layer_of(routing: pl.DataFrame, job: Job | None) -> ExpertLayer | None:
    """The declared layer at the job's tokens per rank, else at the measured number; drops do not make it smaller."""
    if routing.is_empty() or job is None:
        return None
    copies = routing.group_by("step", "layer", "group", "rank").agg(pl.col("tokens").sum())["tokens"].mean()
    per_token = max(job.model.experts_per_token, 1)
    measured = float(str(copies)) / per_token
    declared = job.tokens_per_step / (job.layout.num_batch_parts * (job.num_microbatches or 1)) if job.layout else 0.0
    tokens = declared if job.capacity_factor and declared else measured
    return layer_shape(tokens, routing["group"][0].count(",") + 1, job)


def _routed_bytes(routing: pl.DataFrame, layer: ExpertLayer) -> float | None:
    """Token copies that leave their rank, times bytes of a token, per rank and all-to-all."""
    left = routing.with_columns(
        pl.when(pl.col("rank") == pl.col("expert_rank")).then(0).otherwise("tokens").alias("out")
    )
    mean = left.group_by("step", "layer", "group", "rank").agg(pl.col("out").sum())["out"].mean()
    return float(mean) * layer.token_bytes if isinstance(mean, float | int) else None
