"""`traceanalyzer run --dry-run`: what a job would be, from its settings alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from instrumented_runs.descriptions import layout_of
from instrumented_runs.launching.nodes import Nodes
from instrumented_runs.mixes.settings import MixSettings
from instrumented_runs.settings import ORDER_FILE, ExpertSettings, PipelineSettings, RunSettings
from traceanalyzer.cli.running.room import memory_of_ranks, too_large
from traceanalyzer.errors import DomainError
from traceanalyzer.layout import Layout
from traceanalyzer.review.words import byte_count, counted, milliseconds, percent, ranks_text
from traceanalyzer.schedule import ScheduleName
from traceanalyzer.theory.schedules.closed_forms import bubble_share
from traceanalyzer.theory.schedules.order_csv import read_orders, stage_ranks_of
from traceanalyzer.theory.schedules.orders import order, placement
from traceanalyzer.theory.simulator.op_times import OpTimes
from traceanalyzer.theory.simulator.simulation import simulate

_NS = 1e6


def dry_run_text(kind: str, settings: RunSettings, files: Mapping[str, str], nodes: Nodes) -> str:
    """Mesh on nodes, memory by pipeline rank, simulated step and bubble. Raises `UsageError` for nodes that would differ."""
    size = f"{counted(settings.num_ranks, 'rank')} on {counted(nodes.count, 'node')}"
    lines = [
        f"{kind}: {size}, compute {settings.compute_mode}; nothing is launched",
        *_mesh(layout_of(settings), settings.num_ranks, nodes),
        *_memory(settings, nodes),
    ]
    if isinstance(settings, PipelineSettings):
        lines += _pipeline(settings, files)
    if isinstance(settings, ExpertSettings):
        lines += _experts(settings)
    if isinstance(settings, MixSettings) and settings.pp > 1:
        lines += _mixed(settings)
    return "\n".join(lines)


def groups_of(layout: Layout, dimension: str) -> list[tuple[int, ...]]:
    """Every group of a dimension, members in order."""
    of = {
        "pp": layout.pipeline,
        "dp": layout.replicas,
        "ep": layout.expert_group,
        "cp": layout.context_group,
        "tp": layout.tensor_group,
    }[dimension]
    return sorted({of(rank) for rank in range(layout.world_size)})


def _mesh(layout: Layout, num_ranks: int, nodes: Nodes) -> list[str]:
    each = nodes.ranks_here(num_ranks)
    lines = [
        f"  node {node}: {ranks_text(range(node * each, (node + 1) * each))}"
        for node in range(nodes.count if nodes.count <= 16 else 1)
    ]
    lines += [f"  … {nodes.count} nodes of {counted(each, 'rank')}"] if nodes.count > 16 else []
    for name in ("pp", "dp", "cp", "ep", "tp"):
        if getattr(layout, name) > 1:
            lines.append(f"  {name} {getattr(layout, name)}: {_span(groups_of(layout, name), nodes, num_ranks)}")
    return lines


def _span(groups: Sequence[tuple[int, ...]], nodes: Nodes, num_ranks: int) -> str:
    across = sum(len({nodes.node_of(rank, num_ranks) for rank in group}) > 1 for group in groups)
    first = ", ".join(map(str, groups[0][:8])) + (", …" if len(groups[0]) > 8 else "")
    where = "within nodes" if not across else f"{across} of {counted(len(groups), 'group')} across nodes"
    return f"{where}, for example ranks {first}"


def _memory(settings: RunSettings, nodes: Nodes) -> list[str]:
    try:
        found = memory_of_ranks(settings)
    except DomainError as error:
        return [f"  memory: not known: {error.message}"]
    problem = too_large(settings, nodes)
    return [
        f"  memory of pipeline rank {rank}: {byte_count(memory.total)} (weights {byte_count(memory.weights)}, gradients "
        f"{byte_count(memory.gradients)}, optimizer {byte_count(memory.optimizer)}, activations "
        f"{byte_count(memory.activations + memory.logits)}), without what torch itself takes"
        for rank, memory in sorted(found.items())
    ] + ([f"  would be refused here: {problem}"] if problem is not None else [])


def _pipeline(settings: PipelineSettings, files: Mapping[str, str]) -> list[str]:
    ranks, microbatches, chunks = settings.ranks_per_pipeline, settings.num_microbatches, settings.num_chunks
    if ORDER_FILE in files:
        orders = read_orders(files[ORDER_FILE], ORDER_FILE)
        stage_ranks = stage_ranks_of(orders)
    else:
        name = ScheduleName(settings.schedule)
        orders, stage_ranks = order(name, ranks, microbatches, chunks), placement(name, ranks, chunks)
    forward, backward = (round(ms * _NS / chunks) for ms in (settings.forward_ms, settings.backward_ms))
    times = OpTimes(forward_ns=forward, input_gradient_ns=backward // 2, weight_gradient_ns=backward - backward // 2)
    found = simulate(orders, stage_ranks, times)
    line = f"  {settings.schedule or 'order'} with {counted(microbatches, 'microbatch')}: simulated bubble {percent(found.bubble_share)}"
    if settings.schedule:
        try:
            half = settings.backward_ms / 2
            closed = bubble_share(
                ScheduleName(settings.schedule), ranks, microbatches, chunks, settings.forward_ms, half, half
            )
            line += f" (by formula {percent(closed.share)})"
        except DomainError:
            pass
    line += f", most microbatches held {max(found.peak_in_flight)}"
    if settings.compute_mode != "paced":
        return [line + "; the step's length is that of real computation, which is not known before"]
    return [line + f"; pipeline phase {milliseconds(found.makespan_ns / _NS)}, the step is a little longer"]


def _mixed(settings: MixSettings) -> list[str]:
    name, ranks, microbatches = ScheduleName(settings.schedule), settings.pp, settings.num_microbatches
    found = simulate(
        order(name, ranks, microbatches, 1),
        placement(name, ranks, 1),
        OpTimes(forward_ns=1, input_gradient_ns=1, weight_gradient_ns=1),
    )
    line = f"  {name} with {counted(microbatches, 'microbatch')}: simulated bubble {percent(found.bubble_share)} at a backward "
    line += f"twice the forward, most microbatches held {max(found.peak_in_flight)}; the step takes "
    return [line + f"{found.makespan_ns} forwards of a microbatch through one stage"]


def _experts(settings: ExpertSettings) -> list[str]:
    tokens = settings.num_shards * settings.sequences_per_shard * settings.sequence_length
    copies = tokens * settings.experts_per_token
    line = (
        f"  {settings.routing}: {copies:,} token copies per layer, {copies // settings.num_ranks:,} per rank on average"
    )
    if settings.compute_mode != "paced":
        return [line]
    mean = copies / settings.num_ranks * settings.expert_us_per_token / 1e3
    return [line + f"; at even load experts take {milliseconds(mean)} per layer forward, twice that backward"]
