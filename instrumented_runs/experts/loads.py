"""Who gets how many token copies under each routing that is dealt out exactly.

Eight workloads change one variable each against `balanced`; they are those proposed for Megatron-LM's token-imbalance
benchmark (NVIDIA/Megatron-LM, pull request 7488). Every load is a function of the settings and the step, so it is the
same on any number of ranks that share the same shards.

Shapes: S shards, E experts, e = E/S experts per shard, k experts per token. *Heat*: e experts with `hot_factor` times the mean.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from fractions import Fraction

from instrumented_runs.experts.shares import heated, rounded
from instrumented_runs.settings import ExpertSettings

BURST_PERIOD = 4
"""Under `burst`, one step of so many is hot: those where step + seed is a multiple of it."""


def visits_of_experts(settings: ExpertSettings, num_tokens: int, step: int) -> list[int]:
    """`[E]`: copies that `num_tokens` tokens of one shard send to each expert; they sum to k · num_tokens.

    Copies of neighbours are rounded so that no sum of them is further than one copy from its share.
    """
    return rounded(_shares(settings, step), num_tokens * settings.experts_per_token)


def hot_experts(settings: ExpertSettings, step: int) -> frozenset[int]:
    """The experts with `hot_factor` times the mean load in this step; none where loads are even, or all others are hot."""
    found = _HOT.get(settings.routing)
    return frozenset() if found is None else frozenset(found(settings, step))


def _shares(settings: ExpertSettings, step: int) -> list[Fraction]:
    number = settings.num_experts
    if settings.routing == "idle-experts":
        idle = set(_of_rank(settings, settings.hot_rank))
        return heated(number, idle, Fraction(0))
    return heated(number, hot_experts(settings, step), settings.heat)


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
