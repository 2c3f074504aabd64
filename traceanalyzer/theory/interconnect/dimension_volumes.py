"""Bytes that one rank sends, by dimension of parallelism.

Notation: b·s·h·w is one activation tensor of a microbatch (w bytes per element), T its tokens per rank, n the degree, ψ the
parameters of a rank. All figures are for one rank; `layers` are those of the rank. Sources: TP and SP Korthikanti et al.
(arXiv 2205.05198, section 4.2.2), ZeRO Rajbhandari et al. (arXiv 1910.02054, section 7), ring attention Liu et al.
(arXiv 2310.01889), Ulysses Jacobs et al. (arXiv 2309.14509), pipelines Narayanan et al. (SC21, arXiv 2104.04473).
"""

from __future__ import annotations

from enum import StrEnum

from traceanalyzer.errors import DomainError


class ContextExchange(StrEnum):
    """How context parallelism shares keys and values."""

    RING = "ring"
    """Keys and values travel round a ring, a block at a time."""
    ALL_GATHER = "all_gather"
    """Keys and values are gathered before attention (Llama 3)."""
    ULYSSES = "ulysses"
    """All-to-alls turn a split of tokens into a split of heads, and back."""


def tensor_parallel_bytes(tensor_bytes: float, degree: int, *, num_regions: int = 2) -> float:
    """TP of one layer and microbatch, forward and backward: 2 all-reduces of b·s·h·w each way, 8(n−1)/n·b·s·h·w.

    `num_regions`: 2 for attention and MLP, 1 where experts replace the MLP. With sequence parallelism an all-gather and a
    reduce-scatter replace each all-reduce: the same bytes. What backward gathers once more is hidden and not counted.
    """
    return 2 * num_regions * 2 * (degree - 1) / degree * tensor_bytes


def context_parallel_bytes(
    tokens_per_rank: float, kv_size: int, head_sizes: int, word: float, degree: int, how: ContextExchange
) -> float:
    """CP of one layer and microbatch, forward and backward.

    `kv_size` is the elements of one token's keys and values, `head_sizes` those of queries and of the output. Ring: keys and
    values n − 1 times forward, again with their gradients backward. All-gather: the same bytes; the gradients of keys and
    values are reduced once. Ulysses: (n−1)/n of queries, keys, values and output, each way.
    """
    block = tokens_per_rank * kv_size * word
    if how is ContextExchange.ULYSSES:
        return 2 * (degree - 1) / degree * tokens_per_rank * (kv_size + head_sizes) * word
    passes = 3 if how is ContextExchange.RING else 2
    return passes * (degree - 1) * block


def data_parallel_elements(zero: int, degree: int, num_microbatches: int) -> float:
    """Elements per parameter that a step sends: 2ψ, with ZeRO-2 (1 + M)ψ, with ZeRO-3 3Mψ, each times (n−1)/n.

    ZeRO-0 all-reduces gradients; ZeRO-1 scatters gradients and gathers weights once a step; ZeRO-2 scatters gradients of
    every microbatch, since it keeps no whole ones; ZeRO-3 gathers weights for every forward and backward besides. Without
    gradient accumulation (M = 1) these are the paper's 2ψ, 2ψ, 2ψ and 3ψ. Raises `DomainError` for other stages.
    """
    passes = {0: 2, 1: 2, 2: 1 + num_microbatches, 3: 3 * num_microbatches}
    if zero not in passes:
        raise DomainError(f"ZeRO has no stage {zero}", "stages are 0 to 3")
    return passes[zero] * (degree - 1) / degree


def pipeline_bytes(boundary_bytes: float, num_ranks: int, num_chunks: int, num_microbatches: int) -> float:
    """PP over a whole step and all ranks: 2·M·(vP − 1) boundary tensors, forward and backward."""
    return 2 * num_microbatches * (num_chunks * num_ranks - 1) * boundary_bytes


def causal_imbalance(degree: int, *, balanced: bool = True) -> float:
    """Largest over mean attention work of CP ranks under a causal mask: 1 for paired blocks (zigzag), else 2 − 1/n."""
    return 1.0 if balanced else 2 - 1 / degree
