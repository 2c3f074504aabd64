"""`traceanalyzer plan experts PATH`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from traceanalyzer.cli.manners.help import Command
from traceanalyzer.cli.options.reading import one_place, paths_argument
from traceanalyzer.cli.screen import say

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from polars import DataFrame

    from traceanalyzer.cli.records import NetworkRecord
    from traceanalyzer.gaps.experts.placement import LayerPlacement
    from traceanalyzer.review import AllToAll


@click.command("experts", cls=Command)
@paths_argument
@click.option(
    "--placement", metavar="FILE", help="Write the placement as JSON for a training job; - is standard output."
)
@click.option("--json", "json_file", metavar="FILE", help="Write the proposal as JSON; - is standard output.")
@click.option("--redundant", type=click.IntRange(0), default=0, help="Further expert slots for replicas, in all.")
@click.option("--ranks", type=click.IntRange(0), default=0, help="Ranks to place on.  [default: as measured]")
@click.option("--groups", type=click.IntRange(1), default=1, help="Expert groups of group-limited routing.")
@click.option(
    "--nodes", type=click.IntRange(1), default=1, help="Nodes; a group stays on one node if the numbers divide."
)
@click.option(
    "--hardware", metavar="NAME", help="A described cluster, for example 'DGX H100': price the exchanges too."
)
@click.option("--token-bytes", type=click.FloatRange(0, min_open=True), help="With --hardware: size of a routed token [by the split sizes].")  # fmt: skip
def command(
    paths: tuple[str, ...],
    placement: str | None,
    json_file: str | None,
    redundant: int,
    ranks: int,
    groups: int,
    nodes: int,
    hardware: str | None,
    token_bytes: float | None,
) -> None:
    """Propose a placement of experts, from the loads measured in PATH.

    Hot experts get replicas (--redundant), and experts are packed onto ranks heaviest first. What the proposal would do
    is tested on steps that it was not made from.
    """
    from traceanalyzer.analysis.assemble import analyze, read
    from traceanalyzer.errors import InputError
    from traceanalyzer.gaps.experts.placement import PlacementOptions, placement_file, propose
    from traceanalyzer.output import write_result

    path = one_place(paths)
    analysis = analyze(read(path))
    options = PlacementOptions(num_ranks=ranks, num_redundant=redundant, num_groups=groups, num_nodes=nodes)
    layers = propose(analysis.tables["routing"], options)
    if not layers:
        raise InputError(
            f"{path}: loads of single experts are not known for any layer",
            "keep the routing side file of every rank beside the traces: split sizes show the loads of ranks, not of experts",
        )
    if placement is not None:
        write_result(placement, json.dumps(placement_file(layers, redundant), indent=1).encode() + b"\n")
    network = None if hardware is None else _network(hardware, token_bytes, layers, analysis.tables, nodes)
    if json_file is not None:
        _write(json_file, layers, redundant, analysis.review.all_to_all, network)
    if "-" not in (placement, json_file):
        say("\n".join([*_network_lines(network), *_lines(layers, redundant, analysis.review.all_to_all)]))


def _network(
    hardware: str, size: float | None, layers: Sequence[LayerPlacement], tables: Mapping[str, DataFrame], nodes: int
) -> NetworkRecord:
    from traceanalyzer.cli.records import NetworkRecord
    from traceanalyzer.errors import UsageError
    from traceanalyzer.gaps.experts.placement_price import network_price, token_bytes
    from traceanalyzer.theory.interconnect.topology import find_cluster

    cluster, known = find_cluster(hardware), size or token_bytes(tables["traffic"])
    if known is None:
        raise UsageError("the size of a routed token is not known: no split sizes say it", "give --token-bytes")
    found = network_price(layers, tables["routing"], cluster, known, nodes)
    return NetworkRecord(
        cluster=cluster.name,
        ranks_per_node=found.ranks_per_node,
        token_bytes=found.token_bytes,
        dispatch_us_before=found.before.us,
        dispatch_us_after=found.after.us,
        far_share_before=found.before.far_share,
        far_share_after=found.after.far_share,
    )


def _network_lines(found: NetworkRecord | None) -> list[str]:
    from traceanalyzer.review.words import counted, percent

    if found is None:
        return []
    return [
        (
            f"A dispatch takes {found.dispatch_us_before:.4g} µs on {found.cluster} now, {found.dispatch_us_after:.4g} µs as proposed "
            f"(latency and bandwidth alone; nodes of {counted(found.ranks_per_node, 'rank')}; "
            f"{percent(found.far_share_before)} -> {percent(found.far_share_after)} of the bytes leave their node)."
        )
    ]


def _write(
    target: str,
    layers: Sequence[LayerPlacement],
    redundant: int,
    measured: AllToAll | None,
    network: NetworkRecord | None,
) -> None:
    from traceanalyzer.cli.records import LayerPlacementRecord, PlacementRecord, written
    from traceanalyzer.gaps.experts.placement import advice
    from traceanalyzer.output import write_result

    worth = {item.remedy: item.ms for item in measured.worth} if measured else {}
    summary = advice(layers, redundant, worth.get("balanced_experts"))
    assert summary is not None  # noqa: S101 - layers were checked
    record = PlacementRecord(
        rank_load_before=summary.rank_load_before,
        rank_load_after=summary.rank_load_after,
        held_out=summary.held_out,
        saved_ms=summary.saved_ms,
        num_moved=summary.num_moved,
        num_redundant=redundant,
        network=network,
        layers=[
            LayerPlacementRecord(
                layer=layer.layer,
                group=list(layer.group),
                rank_load_before=layer.before,
                rank_load_after=layer.after,
                experts_of_rank=[sorted(experts) for experts in layer.proposed.experts_of_rank],
            )
            for layer in layers
        ],
    )
    write_result(target, written(record))


def _lines(layers: Sequence[LayerPlacement], redundant: int, measured: AllToAll | None) -> Iterator[str]:
    from traceanalyzer.gaps.experts.placement import advice
    from traceanalyzer.review.words import counted, milliseconds, times

    worth = {item.remedy: item.ms for item in measured.worth} if measured else {}
    summary = advice(layers, redundant, worth.get("balanced_experts"))
    assert summary is not None  # noqa: S101 - layers were checked
    judged = "on steps it was not made from" if summary.held_out else "on the one step it was made from"
    yield f"Fullest rank {times(summary.rank_load_before)} the mean now, {times(summary.rank_load_after)} as proposed ({judged})."
    if summary.saved_ms is not None:
        yield f"Predicted to save {milliseconds(summary.saved_ms)} per step; balanced experts would save {milliseconds(worth['balanced_experts'])}."
    elif measured is not None:
        yield "What it saves is withheld: this run's imbalance could not be priced."
    yield f"{counted(summary.num_moved, 'expert')} would move; {counted(redundant, 'redundant slot')}."
    for layer in layers:
        yield f"layer {layer.layer}, ranks {','.join(map(str, layer.group))}: {times(layer.before)} -> {times(layer.after)}"
        for rank, experts in enumerate(layer.proposed.experts_of_rank):
            name = layer.group[rank] if len(layer.proposed.experts_of_rank) == len(layer.group) else rank
            yield f"  rank {name:>4}  experts {' '.join(map(str, sorted(experts)))}"
