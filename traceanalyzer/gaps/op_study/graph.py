"""The dependency model of published op tables: which operation waits for which, and who communicates with whom.

The rules are those of the what-if study (Lin et al., OSDI 2025, arXiv 2505.05713, section 3.2, and its artifact): computations
of a rank follow each other; sends, receives and data-parallel collectives each form a stream of their own; a send follows
its computation, a receive precedes its own and follows the computation before that; after the last computation come
gradient collectives, clipping and optimizer. The model is that of one replica and step; all others share it.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import polars as pl

from traceanalyzer.errors import InputError
from traceanalyzer.gaps.replay import ReplayGraph, replay_graph

Node = tuple[str, int, int]
"""Kind, sequence and stage of an operation."""

COMPUTE = ("forward-compute", "backward-compute")
P2P = ("forward-send", "forward-recv", "backward-send", "backward-recv")
REPLICATED = ("params-all-gather", "grads-reduce-scatter", "separate-grads-all-reduce")
"""Collectives over all replicas of a stage."""
CLIP, OPTIMIZER, EMBEDDING = "optimizer-clip-main-grad", "optimizer", "embedding-grads-all-reduce"
_TAIL = ("gc", "layernorm-grads-all-reduce", EMBEDDING)


@dataclass(frozen=True, slots=True)
class OpGraph:
    """Who waits for whom in one replica's step."""

    needs: dict[Node, list[Node]]
    groups: list[tuple[Node, ...]]
    """Operations that end together: not before the last of them has started."""
    synchronised: frozenset[Node]
    """Operations that also wait for the same operation of all other replicas."""
    replayed: ReplayGraph
    """Of n operations in the order of `needs`: n starts, n ends, and a meeting for each group."""
    meetings: frozenset[int]
    """Nodes of `replayed` that all replicas reach at one time."""


def op_graph(ops: pl.DataFrame) -> OpGraph:
    """The model from the first step of the first replica of `OPS`. Raises `InputError` if it does not fit the rules."""
    first = ops.filter((pl.col("step") == ops["step"].min()) & (pl.col("replica") == ops["replica"].min()))
    num_stages = int(first["stage"].max() or 0) + 1  # type: ignore[arg-type, operator]
    if first["stage"].n_unique() != num_stages:
        raise InputError(
            f"{first['stage'].n_unique()} stages with numbers up to {num_stages - 1}",
            "give the operations of all stages",
        )
    needs: dict[Node, list[Node]] = {}
    messages: dict[tuple[str, int], list[Node]] = {}
    replicated = ops["replica"].n_unique() > 1
    for stage in range(num_stages):
        rows = first.filter(pl.col("stage") == stage).sort("start_ns", "sequence", "kind")
        _stage_needs(needs, messages, rows, (stage, num_stages), replicated=replicated)
    groups = [*_pairs(messages, num_stages), *_collectives(needs, num_stages, replicated=replicated)]
    synchronised = frozenset(node for node in needs if replicated and node[0] in (*REPLICATED, CLIP))
    return OpGraph(needs, groups, synchronised, *_meetings(needs, groups, synchronised))


def _stage_needs(
    needs: dict[Node, list[Node]],
    messages: dict[tuple[str, int], list[Node]],
    rows: pl.DataFrame,
    place: tuple[int, int],
    *,
    replicated: bool,
) -> None:
    stage, num_stages = place
    nodes: list[Node] = list(rows.select("kind", "sequence", "stage").iter_rows())
    chunk_of: dict[Node, int] = dict(zip(nodes, rows["chunk"].fill_null(0), strict=True))
    for node in nodes:
        needs.setdefault(node, [])
    computes = [node for node in nodes if node[0] in COMPUTE]
    if not computes:
        raise InputError(
            f"stage {stage} does not compute in the first step", "give forward-compute and backward-compute"
        )
    _chain(needs, computes)
    for kind in P2P:
        stream = [node for node in nodes if node[0] == kind]
        messages[kind, stage] = stream
        _chain(needs, stream)
        _join(needs, stream, _partners(kind, computes, chunk_of, (stage, num_stages)))
    _first_backward(needs, computes, messages, stage)
    if replicated:
        streamed = [node for node in nodes if node[0] in ("params-all-gather", "grads-reduce-scatter")]
        _chain(needs, streamed)
        _gathers(needs, nodes, computes, chunk_of)
    separate = ("separate-grads-all-reduce", 0, stage)
    if replicated and separate in needs:
        _scatters(needs, nodes, computes, chunk_of)
    _tail(needs, nodes, computes[-1], stage, overlapped=separate in needs)


def _chain(needs: dict[Node, list[Node]], nodes: list[Node]) -> None:
    for before, node in pairwise(nodes):
        needs[node].append(before)


def _partners(kind: str, computes: list[Node], chunk_of: dict[Node, int], place: tuple[int, int]) -> list[Node]:
    """The computations that send or receive such a message, in order."""
    stage, num_stages = place
    direction, end = kind.split("-")
    chunks = max(chunk_of[node] for node in computes) + 1
    without = 0 if (direction, end) in (("forward", "recv"), ("backward", "send")) else chunks * num_stages - 1
    wanted = sorted((node for node in computes if node[0] == f"{direction}-compute"), key=lambda node: node[1])
    return [node for node in wanted if chunk_of[node] * num_stages + stage != without]


def _join(needs: dict[Node, list[Node]], stream: list[Node], computes: list[Node]) -> None:
    if len(stream) != len(computes):
        what = f"{stream[0][0]} on stage {stream[0][2]}" if stream else f"messages of {computes[0][0]}"
        raise InputError(
            f"{len(stream)} operations {what} for {len(computes)} computations that have one",
            "sends and receives must match the computations one by one",
        )
    for message, compute in zip(stream, computes, strict=True):
        if message[0].endswith("send"):
            needs[message].append(compute)
            continue
        needs[compute].append(message)
        before = (compute[0], compute[1] - 1, compute[2])
        if before in needs:
            needs[message].append(before)


def _first_backward(
    needs: dict[Node, list[Node]], computes: list[Node], messages: dict[tuple[str, int], list[Node]], stage: int
) -> None:
    """The first backward messages follow the second computation before the first backward."""
    at = next((index for index, node in enumerate(computes) if node[0] == "backward-compute"), 0)
    if at < 2:
        return
    for kind in ("backward-send", "backward-recv"):
        for message in messages[kind, stage][:1]:
            needs[message].append(computes[at - 2])


def _gathers(needs: dict[Node, list[Node]], nodes: list[Node], computes: list[Node], chunk_of: dict[Node, int]) -> None:
    """The first forward of a chunk follows the last gathering of its parameters."""
    last = {chunk_of[node]: node for node in nodes if node[0] == "params-all-gather"}
    for chunk, gather in last.items():
        forward = next((node for node in computes if node[0] == "forward-compute" and chunk_of[node] == chunk), None)
        if forward is not None:
            needs[forward].append(gather)


def _scatters(
    needs: dict[Node, list[Node]], nodes: list[Node], computes: list[Node], chunk_of: dict[Node, int]
) -> None:
    """Where gradients are reduced while others are computed: the first scatter of a chunk follows its last backward."""
    seen: set[int] = set()
    for node in nodes:
        chunk = chunk_of[node]
        if node[0] != "grads-reduce-scatter" or chunk in seen:
            continue
        seen.add(chunk)
        last = [each for each in computes if each[0] == "backward-compute" and chunk_of[each] == chunk]
        needs[node] += last[-1:]


def _tail(needs: dict[Node, list[Node]], nodes: list[Node], last: Node, stage: int, *, overlapped: bool) -> None:
    """What follows the last computation, one after another."""
    scatters = [node for node in nodes if node[0] == "grads-reduce-scatter"]
    chain = [(kind, 0, stage) for kind in _TAIL if (kind, 0, stage) in needs]
    if overlapped:
        chain.append(("separate-grads-all-reduce", 0, stage))
        if scatters and len(chain) > 1:
            needs[chain[1]].append(scatters[-1])
    else:
        chain += scatters
    chain += [(kind, 0, stage) for kind in (CLIP, OPTIMIZER) if (kind, 0, stage) in needs]
    _chain(needs, [last, *chain])


def _pairs(messages: dict[tuple[str, int], list[Node]], num_stages: int) -> list[tuple[Node, ...]]:
    """The k-th send of a stage and the k-th receive of the next (backward: of the one before)."""
    pairs: list[tuple[Node, ...]] = []
    for direction, step in (("forward", 1), ("backward", -1)):
        for stage in range(num_stages):
            sends = messages[f"{direction}-send", stage]
            receives = messages[f"{direction}-recv", (stage + step) % num_stages]
            if len(sends) != len(receives):
                raise InputError(
                    f"stage {stage} has {len(sends)} {direction} sends, but its peer {len(receives)} receives",
                    "give the operations of all stages",
                )
            pairs += list(zip(sends, receives, strict=True))
    return pairs


def _collectives(needs: dict[Node, list[Node]], num_stages: int, *, replicated: bool) -> list[tuple[Node, ...]]:
    ends = {(EMBEDDING, 0, stage) for stage in (0, num_stages - 1)}
    clips = {(CLIP, 0, stage) for stage in range(num_stages)}
    groups = [tuple(sorted(group & needs.keys())) for group in (ends, clips)]
    alone = [(node,) for node in needs if replicated and node[0] in REPLICATED]
    return [group for group in groups if group] + alone


def _meetings(
    needs: dict[Node, list[Node]], groups: list[tuple[Node, ...]], synchronised: frozenset[Node]
) -> tuple[ReplayGraph, frozenset[int]]:
    """Every operation starts (node k), meets its group (a node each) and ends (node n + k); and the meetings of all replicas."""
    place = {node: index for index, node in enumerate(needs)}
    waits = [[len(place) + place[before] for before in needed] for needed in needs.values()]
    ends = [[index] for index in range(len(place))]
    meetings: list[list[int]] = []
    together: list[int] = []
    for group in groups:
        meeting = 2 * len(place) + len(meetings)
        meetings.append([place[node] for node in group])
        together += [meeting] * (group[-1] in synchronised)
        for node in group:
            ends[place[node]] = [meeting]
    graph = replay_graph([*waits, *ends, *meetings])
    if graph is None:
        raise InputError("operations of the first step wait for each other in a circle", "starts or kinds are wrong")
    return graph, frozenset(together)
