"""A layer of experts spread over ranks: tokens travel to their experts and back, forward and backward.

Shapes: T tokens on this rank, k experts per token, H hidden, E experts; a *copy* is one visit of a token to an expert.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import nn

from instrumented_runs.experts.exchange import Exchange, ExpertGroup, Splits, part
from instrumented_runs.experts.mlps import Expert, GroupedMultiply, Ranged, aligned, compute_experts
from instrumented_runs.experts.routing import Routed, Routing
from instrumented_runs.settings import ExpertSettings


@dataclass(frozen=True, slots=True)
class Copies:
    """Token copies that are computed, in any order; every field has one entry per copy."""

    token: torch.Tensor
    """Row of the token; T: a row of zeros that fills a buffer."""
    expert: torch.Tensor
    gate: torch.Tensor
    """What the expert's result is weighted with; differentiable."""
    dropped: torch.Tensor
    """`[E]`: copies left out because their expert was full."""
    num_filling: int = 0


@dataclass(frozen=True, slots=True)
class ExpertOptions:
    """How the experts of a layer are computed."""

    num_shards: int
    """Of the batch on this rank; each has its own routing and its own capacity."""
    capacity_factor: float = 0.0
    """0: nothing is dropped."""
    pad_to_capacity: bool = False
    alignment: int = 1
    grouped: GroupedMultiply | None = None

    @classmethod
    def of(cls, settings: ExpertSettings, grouped: GroupedMultiply | None) -> ExpertOptions:
        """What a job asks for."""
        return cls(
            num_shards=settings.num_shards // settings.num_ranks,
            capacity_factor=settings.capacity_factor,
            pad_to_capacity=settings.pad_to_capacity,
            alignment=settings.gemm_alignment,
            grouped=grouped,
        )

    def capacity(self, num_tokens: int, per_token: int, num_experts: int) -> int | None:
        """Copies of one shard of `num_tokens` that an expert takes; None: all."""
        if not self.capacity_factor:
            return None
        return math.ceil(self.capacity_factor * per_token * num_tokens / num_experts)


class Gate(nn.Module):
    """The norm and the router of a layer, and what happens to copies for which an expert has no room."""

    def __init__(self, settings: ExpertSettings, layer: int, options: ExpertOptions, routing: Routing) -> None:
        super().__init__()
        self.layer, self.options, self.routing = layer, options, routing
        self.num_experts, self.per_token = settings.num_experts, settings.experts_per_token
        self.norm = nn.LayerNorm(settings.hidden_size)
        self.router = nn.Linear(settings.hidden_size, settings.num_experts, bias=False)
        self.shared = Expert(settings.hidden_size, settings.shared_ffn_size) if settings.shared_ffn_size else None

    def choose(self, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Experts and gates of every token, both `[T, k]`; gates sum to 1, whatever is dropped afterwards."""
        with part("router", self.layer):
            probabilities = self.router(tokens).softmax(dim=1)
            chosen = self.routing.choose(probabilities, self.layer)
            gates = probabilities.gather(1, chosen)
            return chosen, gates / gates.sum(dim=1, keepdim=True)

    def has_room(self, chosen: torch.Tensor) -> torch.Tensor:
        """Whether each copy finds room, `[T, k]`: in every shard an expert takes the first ones."""
        capacity = self.options.capacity(chosen.shape[0] // self.options.num_shards, self.per_token, self.num_experts)
        if capacity is None:
            return torch.ones_like(chosen, dtype=torch.bool)
        return torch.cat(
            [_place_in_queue(c, self.num_experts) < capacity for c in chosen.chunk(self.options.num_shards)]
        )

    def copies(self, chosen: torch.Tensor, gates: torch.Tensor) -> Copies:
        """The copies that find room and, if asked for, zeros that fill every buffer."""
        room = self.has_room(chosen).flatten()
        token = torch.arange(chosen.shape[0], device=chosen.device).repeat_interleave(self.per_token)
        expert, gate = chosen.flatten(), gates.flatten()
        dropped = expert[~room].bincount(minlength=self.num_experts)
        token, expert, gate = token[room], expert[room], gate[room]
        if not self.options.pad_to_capacity:
            return Copies(token, expert, gate, dropped)
        shard = chosen.shape[0] // self.options.num_shards
        capacity = self.options.capacity(shard, self.per_token, self.num_experts) or 0
        missing = capacity * self.options.num_shards - expert.bincount(minlength=self.num_experts)
        filling = torch.arange(self.num_experts, device=chosen.device).repeat_interleave(missing)
        return Copies(
            torch.cat([token, torch.full_like(filling, chosen.shape[0])]),
            torch.cat([expert, filling]),
            torch.cat([gate, gate.new_zeros(len(filling))]),
            dropped,
            len(filling),
        )

    def beside(self, tokens: torch.Tensor) -> torch.Tensor | float:
        """What the shared expert adds."""
        if self.shared is None:
            return 0.0
        with part("shared_expert", self.layer):
            return self.shared(tokens)


def _place_in_queue(chosen: torch.Tensor, num_experts: int) -> torch.Tensor:
    """How many copies of the same expert come before each copy, `[T, k]`, tokens in order."""
    visits = nn.functional.one_hot(chosen.flatten(), num_experts)
    before = visits.cumsum(0) - visits
    return before.gather(1, chosen.flatten().unsqueeze(1)).view_as(chosen)


class ExpertLayer(nn.Module):
    """The MoE half of a transformer block, residual included; this rank holds `held` experts."""

    def __init__(
        self, settings: ExpertSettings, layer: int, group: ExpertGroup, options: ExpertOptions, routing: Routing
    ) -> None:
        super().__init__()
        self.layer, self.group, self.options = layer, group, options
        self.num_experts = settings.num_experts
        self.gate = Gate(settings, layer, options, routing)
        slots = placed(settings, layer)
        each = settings.num_experts // group.size
        self.held = slots[group.position * each : (group.position + 1) * each]
        self.slot_of = torch.tensor(slots).argsort()
        self.experts = nn.ModuleList(Expert(settings.hidden_size, settings.expert_ffn_size) for _ in self.held)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """`[batch, length, H]` to the same."""
        tokens = self.gate.norm(x).flatten(0, 1)
        chosen, gates = self.gate.choose(tokens)
        with part("permute", self.layer):
            copies = self.gate.copies(chosen, gates)
            slot = self.slot_of.to(chosen.device)[copies.expert]
            order = slot.argsort(stable=True)
            source = copies.token[order]
            rows = torch.cat([tokens, tokens.new_zeros(1, tokens.shape[1])])[source]
            visits = slot.bincount(minlength=self.num_experts)
        splits = self.group.count_exchange(visits, self.layer)
        self._note(chosen, copies, splits)
        arrived = Exchange.apply(rows, splits.send, splits.receive, self.group, "dispatch", self.layer)
        compute = compute_experts(self.experts, splits.per_expert, self.options.alignment, self.options.grouped)
        done = Ranged.apply(arrived, compute, self.group.inside(sum(splits.receive), self.layer))
        returned = Exchange.apply(done, splits.receive, splits.send, self.group, "combine", self.layer)
        with part("unpermute", self.layer):
            weighted = returned * copies.gate[order].unsqueeze(1)
            room = tokens.new_zeros(tokens.shape[0] + 1, tokens.shape[1])
            summed = room.index_add(0, source, weighted)[:-1]
        return x + (summed + self.gate.beside(tokens)).view_as(x)

    def _note(self, chosen: torch.Tensor, copies: Copies, splits: Splits) -> None:
        """Write down what was asked for, what was dropped and what was filled up."""
        here: list[int] = splits.per_expert.sum(0).tolist()
        self.gate.routing.note(
            Routed(
                layer=self.layer,
                visits=chosen.flatten().bincount(minlength=self.num_experts).tolist(),
                dropped=copies.dropped.tolist(),
                send=splits.send,
                receive=splits.receive,
                filling_rows=copies.num_filling,
                aligned_rows=sum(aligned(rows, self.options.alignment) - rows for rows in here),
                slots=placed(self.gate.routing.settings, self.layer),
            )
        )


def placed(settings: ExpertSettings, layer: int) -> list[int]:
    """The expert in every slot of a layer, rank by rank."""
    if not settings.placement:
        return list(range(settings.num_experts))
    return [expert for experts in settings.placement[layer] for expert in experts]
