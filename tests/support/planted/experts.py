"""Expert layers: dispatch, what the experts of a rank compute, and the way back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from planted.rank import Rank


def act_as_experts(rank: Rank, phase: str, salt: int) -> None:
    """One layer of one action; `salt` tells its routing from that of others."""
    job, group = rank.job, rank.job.expert_group(rank.rank)
    own = group.index(rank.rank)
    tokens = sum(rank.program.splits(peer, salt)[own] for peer in group)
    dispatched = _exchange(rank, salt, back=False)
    duration = tokens * job.expert_ns_per_token * (1 if phase == "F" else 2)
    rank.compute(duration, ("gemm",), [dispatched], 1)
    combined = _exchange(rank, salt, back=True)
    rank.compute(20_000, ("elementwise",), [combined], 1)


def _exchange(rank: Rank, salt: int, *, back: bool) -> int:
    """Dispatch, or the way back: what was received is returned."""
    group, size = rank.job.expert_group(rank.rank), rank.job.token_bytes
    own = group.index(rank.rank)
    out = rank.program.splits(rank.rank, salt)
    incoming = [rank.program.splits(peer, salt)[own] for peer in group]
    send, receive = (incoming, out) if back else (out, incoming)
    facts: dict[str, Any] = {"sent": [n * size for n in send], "received": [n * size for n in receive]}
    if not rank.job.even_exchange:
        facts |= {"splits": send, "receive_splits": receive, "receive_nelems": sum(receive) * size // 2}
    return rank.collective("ep", "all_to_all", group, sum(send) * size, **facts)
