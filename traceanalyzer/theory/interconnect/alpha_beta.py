"""Collectives by latency and bandwidth (α–β), one level, in nanoseconds.

S is the size that nccl-tests prints (doc/PERFORMANCE.md): of an all-reduce the buffer of a rank, of an all-gather or
reduce-scatter the whole array, of an all-to-all what a rank sends, its own share included; n ranks, B bytes per second of
one rank in one direction. Ring all-reduce: 2(n−1)α + 2(n−1)/n·S/B; the others (n−1)α + (n−1)/n·S/B; tree all-reduce:
2·log₂(n)·α + 2S/B; a message: α + S/B.
"""

from __future__ import annotations

import math
from enum import StrEnum

_NS = 1e9


class Op(StrEnum):
    """What ranks do together."""

    ALL_REDUCE = "all_reduce"
    ALL_GATHER = "all_gather"
    REDUCE_SCATTER = "reduce_scatter"
    ALL_TO_ALL = "all_to_all"
    SEND = "send"


def wire_bytes(op: Op, size_bytes: float, num_ranks: int) -> float:
    """Bytes that one rank sends."""
    if op is Op.SEND:
        return size_bytes
    passes = 2 if op is Op.ALL_REDUCE else 1
    return passes * (num_ranks - 1) / num_ranks * size_bytes


def num_steps(op: Op, num_ranks: int) -> int:
    """Messages that follow each other."""
    if op is Op.SEND:
        return 1
    return (2 if op is Op.ALL_REDUCE else 1) * (num_ranks - 1)


def ring_ns(op: Op, size_bytes: float, num_ranks: int, latency_ns: float, bytes_per_second: float) -> float:
    """Around a ring (an all-to-all: to every rank in turn)."""
    wire = wire_bytes(op, size_bytes, num_ranks)
    return num_steps(op, num_ranks) * latency_ns + wire / bytes_per_second * _NS


def tree_all_reduce_ns(size_bytes: float, num_ranks: int, latency_ns: float, bytes_per_second: float) -> float:
    """Up a tree and down again, pipelined."""
    return 2 * math.log2(num_ranks) * latency_ns + 2 * size_bytes / bytes_per_second * _NS
