"""What ranks exchange inside an action: tensor groups, rings of context parallelism, embedding tables."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from planted.replicas import MIX, act_beside_replicas
from planted.simulation import transfer_ns

if TYPE_CHECKING:
    from planted.job import Action
    from planted.rank import Rank

TENSOR_LAYERS = 2
TENSOR_BYTES = 16 << 20
RING_BYTES = 4 << 20
COMPUTE_STREAM = 7


def act_in_mesh(rank: Rank, action: Action, duration: int, after: list[int]) -> None:
    """The action's computation with what its mesh exchanges inside."""
    job = rank.job
    if job.tensor > 1:
        _tensor(rank, duration, after)
    elif job.context > 1:
        _ring(rank, action, duration, after)
    elif job.tables_bytes:
        _tables(rank, action, duration, after)
    else:
        act_beside_replicas(rank, action, duration, after)


def _waited(rank: Rank, end: int) -> None:
    """The next computation waits for `end`."""
    rank.last[COMPUTE_STREAM] = rank.graph.add(rank.rank, 0, [end, rank.last.get(COMPUTE_STREAM)])


def _tensor(rank: Rank, duration: int, after: list[int]) -> None:
    group = rank.job.part_group(rank.rank, rank.job.tensor)
    for layer in range(TENSOR_LAYERS):
        rank.compute(duration // TENSOR_LAYERS, MIX, after if layer == 0 else [], 3)
        _waited(rank, rank.collective("tp", "all_reduce", group, TENSOR_BYTES))


def _tables(rank: Rank, action: Action, duration: int, after: list[int]) -> None:
    """Exchanges of rows of embeddings, unlike in every one, with no second one that takes them back."""
    group = rank.job.stage_group(rank.rank)
    size = 512
    for half in range(2):
        chance = [random.Random(repr((action, half, peer))).sample(range(80, 120), len(group)) for peer in group]  # noqa: S311
        own = group.index(rank.rank)
        out = [rank.job.tables_bytes // size * share // 100 for share in chance[own]]
        back = [rank.job.tables_bytes // size * row[own] // 100 for row in chance]
        end = rank.collective(
            "tables", "all_to_all", group, sum(out) * size, sent=[n * size for n in out], received=[n * size for n in back],
            splits=out, receive_splits=back, receive_nelems=sum(back) * size // 2,
        )  # fmt: skip
        rank.compute(duration // 2, ("gemm", "elementwise"), [end, *(after if half == 0 else [])], 4)


def _ring(rank: Rank, action: Action, duration: int, after: list[int]) -> None:
    """Causal attention while keys and values pass to the next member; then the rest of the layer."""
    job = rank.job
    group = job.part_group(rank.rank, job.context)
    own, size = group.index(rank.rank), job.context
    unit = round(duration * job.attention_share / size)
    for end in after:  # keys and values are computed from what the action needs
        _waited(rank, end)
    waits: list[int] = []
    for turn in range(size):
        arrived = _pass_on(rank, action, group, turn) if turn + 1 < size else None
        full = 1 if turn == 0 else 2 if own >= turn else 0
        share = unit if job.context_layout == "zigzag" else unit * full
        if share:
            rank.compute(share, ("attention",), waits, 1)
            waits = []
        waits = [*waits, *([arrived] if arrived is not None else [])]
    rank.compute(round(duration * (1 - job.attention_share)), ("gemm", "elementwise"), waits, 4)


def _pass_on(rank: Rank, action: Action, group: list[int], turn: int) -> int:
    """One kernel that sends to the next member and receives from the one before."""
    own, size = group.index(rank.rank), len(group)
    to, source = group[(own + 1) % size], group[(own - 1) % size]
    calls = [
        {
            "collective": way,
            "group": "cp",
            "members": group,
            "peer": peer,
            "nelems": RING_BYTES // 2,
            "dtype": "BFloat16",
        }
        for way, peer in (("send", to), ("recv", source))
    ]
    end = rank.communicate(
        "cp", 14, "send_recv", "ncclDevKernel_SendRecv(ncclDevKernelArgsStorage<4096ul>)", [*calls, calls[0]],
        members=group, parts=[("send", to, RING_BYTES), ("receive", source, RING_BYTES)],
    )  # fmt: skip
    arrival = rank.graph.nodes[end].after[0]
    for kind, ends in (("send", (rank.rank, to)), ("receive", (source, rank.rank))):
        key = ("cp", rank.step, action, turn, *ends)
        pair = rank.program.ring.setdefault(key, {})
        pair[kind] = (arrival, end)
        if len(pair) == 2:
            cost = transfer_ns(rank.job, rank.faults, *ends, RING_BYTES)
            for (_, mine), (other, _) in ((pair["send"], pair["receive"]), (pair["receive"], pair["send"])):
                node = rank.graph.nodes[mine]
                node.arrivals.append(other)
                node.transfers.append(cost)
    return end
