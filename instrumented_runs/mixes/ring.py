"""Causal attention over sequences cut over ranks: keys and values travel round a ring (Liu et al., arXiv 2310.01889).

Parts of the softmax are merged online by their log-sum-exp; blocks that the causal mask hides are skipped. Every rank sends
its block n − 1 times forward; backward the block again, and the gradients of keys and values, n − 1 times each.

Shapes: B sequences, H heads, L tokens of a rank, D head size, n ranks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.distributed as dist
from torch.profiler import record_function

from instrumented_runs.pacing.host import Pacer

ATTENTION_RANGE = "cp:attention{direction}"


def positions(length: int, place: int, size: int, cut: str) -> torch.Tensor:
    """`[L]`: the tokens of a whole sequence that context rank `place` of `size` holds, in its order."""
    if cut == "contiguous":
        return torch.arange(length).chunk(size)[place]
    chunks = torch.arange(length).chunk(2 * size)
    return torch.cat([chunks[place], chunks[2 * size - 1 - place]])


def visible_pairs(queries: torch.Tensor, keys: torch.Tensor) -> int:
    """Pairs of query and key that the causal mask shows, from positions."""
    return int((queries[:, None] >= keys[None, :]).sum())


@dataclass(frozen=True, slots=True)
class Ring:
    """The ranks that share a sequence, and how long a visible pair takes."""

    group: dist.ProcessGroup | None
    size: int
    place: int
    length: int
    cut: str
    us_per_pair: float | None = None
    pacer: Pacer = field(default_factory=lambda: Pacer(continues=False))

    def positions(self, place: int) -> torch.Tensor:
        """Tokens of a place."""
        return positions(self.length, place % self.size, self.size, self.cut)

    def blocks(self, source: int) -> Iterator[tuple[slice, slice, torch.Tensor | None]]:
        """Own queries, keys of `source`, and a mask where only some pairs are visible; hidden blocks are left out."""
        mine, theirs = self.positions(self.place), self.positions(source)
        parts = 1 if self.cut == "contiguous" else 2
        each = len(mine) // parts
        for query in range(parts):
            for key in range(parts):
                q, k = slice(query * each, (query + 1) * each), slice(key * each, (key + 1) * each)
                if mine[q][-1] < theirs[k][0]:
                    continue
                whole = bool(mine[q][0] >= theirs[k][-1])
                yield q, k, None if whole else mine[q][:, None] >= theirs[k][None, :]

    def turn(self, block: torch.Tensor) -> Callable[[], torch.Tensor]:
        """Send a block to the next rank; what ends the exchange gives the block of the rank before."""
        after, before = (self.place + 1) % self.size, (self.place - 1) % self.size
        arrived = torch.empty_like(block)
        sent = dist.isend(block.contiguous(), group=self.group, group_dst=after)
        received = dist.irecv(arrived, group=self.group, group_src=before)
        assert sent is not None  # noqa: S101 - this rank is a member
        assert received is not None  # noqa: S101

        def finish() -> torch.Tensor:
            received.wait()
            sent.wait()
            return arrived

        return finish

    def working(self, source: int, num_sequences: int, *, backward: bool) -> AbstractContextManager[Any]:
        """Range and pace of the attention to one block."""
        if self.us_per_pair is None:
            return nullcontext()
        pairs = visible_pairs(self.positions(self.place), self.positions(source)) * num_sequences
        return self.pacer.slot(pairs * self.us_per_pair / 1e3 * (2 if backward else 1))


class RingAttention(torch.autograd.Function):
    """`[B, H, L, D]` queries, keys and values of this rank's tokens to their attention over the whole sequence."""

    @staticmethod
    def forward(ctx: Any, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, ring: Ring) -> torch.Tensor:  # noqa: ANN401 - torch's context
        """Online softmax over the blocks as they arrive."""
        out, lse = torch.zeros_like(q), q.new_full(q.shape[:-1], float("-inf"))
        block = torch.stack([k, v])
        for turn in range(ring.size):
            finish = ring.turn(block) if turn < ring.size - 1 else None
            source = (ring.place - turn) % ring.size
            with record_function(ATTENTION_RANGE.format(direction="")), ring.working(source, len(q), backward=False):
                for rows, keys, mask in ring.blocks(source):
                    scores = _scores(q[:, :, rows], block[0][:, :, keys], mask)
                    part = scores.logsumexp(-1)
                    value = (scores - part[..., None]).exp() @ block[1][:, :, keys]
                    merged = torch.logaddexp(lse[:, :, rows], part)
                    out[:, :, rows] *= (lse[:, :, rows] - merged).exp()[..., None]
                    out[:, :, rows] += (part - merged).exp()[..., None] * value
                    lse[:, :, rows] = merged
            block = finish() if finish else block
        ctx.save_for_backward(q, k, v, out, lse)
        ctx.ring = ring
        return out

    @staticmethod
    def backward(ctx: Any, *grad_outputs: torch.Tensor) -> tuple[torch.Tensor | None, ...]:  # noqa: ANN401 - torch's context
        """Blocks travel again; from the second rank on their gradients travel with them, and home in the end."""
        (gradient,) = grad_outputs
        q, k, v, out, lse = ctx.saved_tensors
        ring: Ring = ctx.ring
        delta = (gradient * out).sum(-1)
        dq, own, block = torch.zeros_like(q), torch.zeros(0), torch.stack([k, v])
        travelling: torch.Tensor | None = None
        for turn in range(ring.size):
            finish = ring.turn(block) if turn < ring.size - 1 else None
            source = (ring.place - turn) % ring.size
            added = torch.zeros_like(block)
            with (
                record_function(ATTENTION_RANGE.format(direction="_backward")),
                ring.working(source, len(q), backward=True),
            ):
                for rows, keys, mask in ring.blocks(source):
                    p = (_scores(q[:, :, rows], block[0][:, :, keys], mask) - lse[:, :, rows, None]).exp()
                    added[1][:, :, keys] += p.transpose(-1, -2) @ gradient[:, :, rows]
                    ds = p * (gradient[:, :, rows] @ block[1][:, :, keys].transpose(-1, -2) - delta[:, :, rows, None])
                    ds = ds * q.shape[-1] ** -0.5
                    dq[:, :, rows] += ds @ block[0][:, :, keys]
                    added[0][:, :, keys] += ds.transpose(-1, -2) @ q[:, :, rows]
            if turn == 0:
                own = added
            else:
                travelling = ring.turn(added if travelling is None else travelling + added)()
            block = finish() if finish else block
        if travelling is not None:
            own = own + travelling
        return dq, own[0], own[1], None


def _scores(q: torch.Tensor, k: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    scores = q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5
    return scores if mask is None else scores.masked_fill(~mask, float("-inf"))
