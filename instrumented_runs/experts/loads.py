"""Who gets how many token copies, and who brings how many sequences, under each routing that is dealt out exactly.

Eight workloads change one variable each against `balanced`; they are those proposed for Megatron-LM's token-imbalance
benchmark (NVIDIA/Megatron-LM, pull request 7488). Every load is a function of the settings and the step, so it is the
same on any number of ranks that share the same shards.

Shapes: S shards, E experts, e = E/S experts per shard, k experts per token. *Heat*: e experts with `hot_factor` times the mean.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from fractions import Fraction
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from instrumented_runs.settings import ExpertSettings

BURST_PERIOD = 4
"""Under `burst`, one step of so many is hot: those where step + seed is a multiple of it."""


def visits_of_experts(settings: ExpertSettings, num_tokens: int, step: int) -> list[int]:
    """`[E]`: copies that `num_tokens` tokens of one shard send to each expert; they sum to k · num_tokens.

    Copies of neighbours are rounded so that no sum of them is further than one copy from its share.
    """
    return _rounded(_shares(settings, step), num_tokens * settings.experts_per_token)


def sequences_of_shards(settings: ExpertSettings) -> list[int]:
    """`[S]`: sequences that each shard of the batch brings; they sum to S · `sequences_per_shard`."""
    total = settings.num_shards * settings.sequences_per_shard
    if settings.routing != "ragged-sources":
        return [settings.sequences_per_shard] * settings.num_shards
    return _rounded(heated(settings.num_shards, {settings.hot_rank}, _factor(settings)), total)


def hot_experts(settings: ExpertSettings, step: int) -> frozenset[int]:
    """The experts with `hot_factor` times the mean load in this step; none where loads are even, or all others are hot."""
    found = _HOT.get(settings.routing)
    return frozenset() if found is None else frozenset(found(settings, step))


def heated(number: int, hot: Sequence[int] | set[int] | frozenset[int], factor: Fraction) -> list[Fraction]:
    """Shares of `number` members, `factor` times the mean for those that are `hot`, the rest alike; they sum to 1."""
    if not hot or len(hot) == number:
        return [Fraction(1, number)] * number
    rest = (1 - factor * len(hot) / number) / (number - len(hot))
    return [factor / number if member in hot else rest for member in range(number)]


def _shares(settings: ExpertSettings, step: int) -> list[Fraction]:
    number = settings.num_experts
    if settings.routing == "idle-experts":
        idle = set(_of_rank(settings, settings.hot_rank))
        return heated(number, idle, Fraction(0))
    return heated(number, hot_experts(settings, step), _factor(settings))


def _factor(settings: ExpertSettings) -> Fraction:
    return Fraction(settings.hot_factor).limit_denominator(1_000_000)


def _of_rank(settings: ExpertSettings, shard: int) -> list[int]:
    each = settings.num_experts // settings.num_shards
    return list(range(shard * each, (shard + 1) * each))


def _drawn(settings: ExpertSettings, _step: int) -> list[int]:
    each = settings.num_experts // settings.num_shards
    return random.Random(settings.seed).sample(range(settings.num_experts), each)  # noqa: S311 - no secret


def _hot_rank(settings: ExpertSettings, _step: int) -> list[int]:
    return _of_rank(settings, settings.hot_rank)


def _spread(settings: ExpertSettings, _step: int) -> list[int]:
    number, each = settings.num_experts, settings.num_experts // settings.num_shards
    return [(settings.hot_rank * each + index * number // each) % number for index in range(each)]


def _rotating(settings: ExpertSettings, step: int) -> list[int]:
    return _of_rank(settings, step % settings.num_shards)


def _burst(settings: ExpertSettings, step: int) -> list[int]:
    return _hot_rank(settings, step) if (step + settings.seed) % BURST_PERIOD == 0 else []


_HOT: dict[str, Callable[[ExpertSettings, int], list[int]]] = {
    "hot-experts": _drawn,
    "hot-rank": _hot_rank,
    "spread-heat": _spread,
    "rotating": _rotating,
    "burst": _burst,
}


def _rounded(shares: Sequence[Fraction], total: int) -> list[int]:
    bounds = [Fraction(0)]
    for share in shares:
        bounds.append(bounds[-1] + share * total)
    edges = [(bound + Fraction(1, 2)).__floor__() for bound in bounds]
    return [end - start for start, end in pairwise(edges)]
