"""Which experts each token visits: drawn, so that the load is what a run asks for, or learned.

A drawn assignment depends only on the seed, the step, the layer and the shard of the batch, never on how experts
are spread over processes. The gate's weights stay the router's own, so the router learns in every mode.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch

from instrumented_runs.experts.loads import visits_of_experts
from instrumented_runs.settings import DEALT_ROUTINGS, ExpertSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class Routed:
    """Where the tokens of one process went in one layer."""

    layer: int
    visits: list[int]
    """Copies routed to each expert, before any drop."""
    dropped: list[int]
    """Of these, copies that found no room."""
    send: list[int]
    """Rows sent to each rank of the group, filling included; empty if experts are sliced over ranks."""
    receive: list[int]
    filling_rows: int = 0
    """Rows of zeros among those sent."""
    aligned_rows: int = 0
    """Rows of zeros that this rank's multiplications were filled up with."""
    slots: list[int] = field(default_factory=list[int])
    """The expert in every slot, rank by rank."""


class Routing:
    """Routes the tokens of one process in the current step, and reports to `note` where they went."""

    def __init__(self, settings: ExpertSettings, first_shard: int, note: Callable[[Routed], None]) -> None:
        self.step = 0
        self.note = note
        self.settings = settings
        self._first_shard = first_shard

    def choose(self, probabilities: torch.Tensor, layer: int) -> torch.Tensor:
        """Experts of each token, `[tokens, experts_per_token]`; each shard of the batch is drawn for itself."""
        here = self.settings.num_shards // self.settings.num_ranks
        sequences = self.settings.sequences_of_shards[self._first_shard : self._first_shard + here]
        shards = probabilities.detach().split([number * self.settings.sequence_length for number in sequences])
        return torch.cat(
            [assign(self.settings, p, self.step, layer, self._first_shard + i) for i, p in enumerate(shards)]
        )


def assign(settings: ExpertSettings, probabilities: torch.Tensor, step: int, layer: int, shard: int) -> torch.Tensor:
    """Experts of each token, `[tokens, experts_per_token]` int64, distinct within a token.

    `probabilities`: the router's, `[tokens, num_experts]`.
    """
    num_tokens = probabilities.shape[0]
    if settings.routing == "learned":
        return probabilities.topk(settings.experts_per_token, dim=1).indices
    draw = torch.Generator().manual_seed(((settings.seed * 1009 + step) * 1009 + layer) * 1009 + shard)
    if settings.routing in DEALT_ROUTINGS:
        chosen = deal(visits_of_experts(settings, num_tokens, step), num_tokens, draw)
    else:
        scores = expert_weights(settings).log() + _gumbel((num_tokens, settings.num_experts), draw)
        chosen = scores.topk(settings.experts_per_token, dim=1).indices
    return chosen.to(probabilities.device)


def expert_weights(settings: ExpertSettings) -> torch.Tensor:
    """How likely each expert is drawn first, up to a factor: all alike, or the i-th in proportion to 1/i."""
    ranks = torch.arange(1, settings.num_experts + 1, dtype=torch.float64)
    return 1 / ranks if settings.routing == "zipf" else torch.ones_like(ranks)


def deal(visits: list[int], num_tokens: int, draw: torch.Generator) -> torch.Tensor:
    """Hand out `visits[e]` visits of expert e so that no token meets an expert twice.

    Visits sorted by expert are dealt round the tokens; one expert has at most `num_tokens` of them, so they all fall
    on different tokens.
    """
    experts = torch.repeat_interleave(torch.arange(len(visits)), torch.tensor(visits))
    table = experts.view(-1, num_tokens).T
    return table[torch.randperm(num_tokens, generator=draw)].contiguous()


def _gumbel(size: tuple[int, int], draw: torch.Generator) -> torch.Tensor:
    """Noise that makes the largest of log-weight + noise a draw in proportion to the weights."""
    uniform = torch.rand(size, generator=draw, dtype=torch.float64).clamp_min(1e-12)
    return -(-uniform.log()).log()
