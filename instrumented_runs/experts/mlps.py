"""What experts compute on the rows that reached them: one by one, or all of a rank in one grouped multiplication."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 - torch's own convention

from traceanalyzer.errors import UsageError

GroupedMultiply = Callable[..., torch.Tensor]
"""Rows `[R, K]`, matrices `[experts, K, N]`, `offs` (end of each expert's rows, int32) to `[R, N]`."""


class Expert(nn.Module):
    """One expert, or a slice of one: `[rows, H]` to the same."""

    def __init__(self, hidden: int, inner: int) -> None:
        super().__init__()
        self.up = nn.Linear(hidden, inner, bias=False)
        self.down = nn.Linear(inner, hidden, bias=False)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        """The MLP."""
        return self.down(F.gelu(self.up(rows)))


class Ranged(torch.autograd.Function):
    """A computation with a range, and a pace, around its forward and around its backward."""

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401 - torch's context
        rows: torch.Tensor,
        compute: Callable[[torch.Tensor], torch.Tensor],
        inside: Callable[[str], AbstractContextManager[Any]],
    ) -> torch.Tensor:
        """Compute on a graph of its own, which backward walks inside the range."""
        with inside("experts"), torch.enable_grad():
            ctx.given = rows.detach().requires_grad_()
            ctx.result = compute(ctx.given)
        ctx.inside = inside
        return ctx.result.detach()

    @staticmethod
    def backward(ctx: Any, *grad_outputs: torch.Tensor) -> tuple[torch.Tensor | None, ...]:  # noqa: ANN401 - torch's context
        """Weights collect their gradient here; the rows' gradient is returned."""
        with ctx.inside("experts_backward"):
            torch.autograd.backward(ctx.result, grad_outputs[0].contiguous())
        return ctx.given.grad, None, None


def grouped_multiply(dtype: torch.dtype, device: torch.device) -> GroupedMultiply:
    """Torch's grouped matrix multiplication, tried forward and backward. Raises `UsageError` if it does not work."""
    found: GroupedMultiply | None = getattr(F, "grouped_mm", None) or getattr(torch, "_grouped_mm", None)
    if found is not None:
        rows, matrices = (torch.zeros(size, dtype=dtype, device=device) for size in ((16, 16), (2, 16, 16)))
        ends = torch.tensor([8, 16], dtype=torch.int32, device=device)
        try:
            found(rows.requires_grad_(), matrices.requires_grad_(), offs=ends).backward(torch.zeros_like(rows))
        except (RuntimeError, NotImplementedError):
            found = None
    if found is None:
        raise UsageError(
            f"torch {torch.__version__} has no grouped matrix multiplication of {dtype} on {device.type}",
            "leave --grouped-gemm out",
        )
    return found


def compute_experts(
    experts: nn.ModuleList, per_expert: torch.Tensor, alignment: int = 1, grouped: GroupedMultiply | None = None
) -> Callable[[torch.Tensor], torch.Tensor]:
    """A function from rows as they arrive (by source, then expert) to results in the same order.

    Args:
        experts: of this rank.
        per_expert: `[sources, experts]`: rows of each.
        alignment: every expert's rows are filled up with zeros to a multiple of this.
        grouped: one multiplication for all experts; None: expert by expert.
    """
    counts: list[int] = per_expert.flatten().tolist()
    num_local = len(experts)
    mine = [range(expert, len(counts), num_local) for expert in range(num_local)]
    filled = [aligned(sum(counts[i] for i in pieces), alignment) for pieces in mine]

    def compute(rows: torch.Tensor) -> torch.Tensor:
        pieces = rows.split(counts)
        gathered = [_filled([pieces[i] for i in own], size) for own, size in zip(mine, filled, strict=True)]
        done = (
            _grouped(experts, gathered, grouped) if grouped else [e(x) for e, x in zip(experts, gathered, strict=True)]
        )
        results: list[torch.Tensor] = [rows] * len(pieces)
        for own, result, size in zip(mine, done, filled, strict=True):
            lengths = [counts[i] for i in own]
            for i, piece in zip(own, result.split([*lengths, size - sum(lengths)]), strict=False):
                results[i] = piece
        return torch.cat(results)

    return compute


def aligned(num_rows: int, alignment: int) -> int:
    """The next multiple of `alignment`."""
    return -(-num_rows // alignment) * alignment


def _filled(pieces: Sequence[torch.Tensor], size: int) -> torch.Tensor:
    missing = size - sum(piece.shape[0] for piece in pieces)
    return torch.cat([*pieces, pieces[0].new_zeros((missing, pieces[0].shape[1]))])


def _grouped(experts: nn.ModuleList, rows: Sequence[torch.Tensor], multiply: GroupedMultiply) -> Sequence[torch.Tensor]:
    sizes = [piece.shape[0] for piece in rows]
    ends = torch.tensor(sizes, device=rows[0].device).cumsum(0).to(torch.int32)

    def matrices(name: str) -> torch.Tensor:
        return torch.stack([getattr(expert, name).weight.T for expert in experts])

    inner = F.gelu(multiply(torch.cat([*rows]), matrices("up"), offs=ends))
    return multiply(inner, matrices("down"), offs=ends).split(sizes)
