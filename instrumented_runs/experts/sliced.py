"""A layer of experts of which every rank holds a slice: tokens of all ranks are gathered, results summed and scattered.

The twin of `ExpertLayer` by tensor parallelism: the same tokens, routing, weights and loss. Shapes: T tokens on this
rank, n ranks, k experts per token, H hidden.
"""

from __future__ import annotations

import torch
from torch import nn

from instrumented_runs.experts.exchange import ExpertGroup, Gather, Reduce, part
from instrumented_runs.experts.layer import ExpertOptions, Gate
from instrumented_runs.experts.mlps import Expert, Ranged, aligned, compute_experts
from instrumented_runs.experts.routing import Routed, Routing
from instrumented_runs.settings import ExpertSettings

NO_EXPERT = -1
"""In place of an expert that had no room."""


class SlicedExpertLayer(nn.Module):
    """The MoE half of a transformer block, residual included; every rank holds 1/n of each expert's inner size."""

    def __init__(
        self, settings: ExpertSettings, layer: int, group: ExpertGroup, options: ExpertOptions, routing: Routing
    ) -> None:
        super().__init__()
        self.layer, self.group, self.options = layer, group, options
        self.num_experts = settings.num_experts
        self.gate = Gate(settings, layer, options, routing)
        self.held = list(range(settings.num_experts))
        inner = settings.expert_ffn_size // group.size
        self.experts = nn.ModuleList(Expert(settings.hidden_size, inner) for _ in self.held)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """`[batch, length, H]` to the same."""
        tokens = self.gate.norm(x).flatten(0, 1)
        chosen, gates = self.gate.choose(tokens)
        room = self.gate.has_room(chosen)
        with part("gather_routing", self.layer):
            experts = self.group.gather(torch.where(room, chosen, NO_EXPERT)).flatten()
        weights = Gather.apply(gates, self.group, "gather_gates", self.layer).flatten()
        everything = Gather.apply(tokens, self.group, "gather", self.layer)
        with part("permute", self.layer):
            kept = (experts != NO_EXPERT).nonzero().squeeze(1)
            order = kept[experts[kept].argsort(stable=True)]
            source = order // self.gate.per_token
            visits = experts[kept].bincount(minlength=self.num_experts)
            rows = everything[source]
        self._note(chosen, room, visits)
        compute = compute_experts(self.experts, visits.unsqueeze(0), self.options.alignment, self.options.grouped)
        done = Ranged.apply(rows, compute, self.group.inside(len(rows) / self.group.size, self.layer))
        with part("unpermute", self.layer):
            partial = torch.zeros_like(everything).index_add(0, source, done * weights[order].unsqueeze(1))
        summed = Reduce.apply(partial, self.group, "reduce", self.layer)
        return x + (summed + self.gate.beside(tokens)).view_as(x)

    def _note(self, chosen: torch.Tensor, room: torch.Tensor, visits: torch.Tensor) -> None:
        """Write down what was asked for and what was dropped; nothing travels to single ranks."""
        rows: list[int] = visits.tolist()
        self.gate.routing.note(
            Routed(
                layer=self.layer,
                visits=chosen.flatten().bincount(minlength=self.num_experts).tolist(),
                dropped=chosen[~room].bincount(minlength=self.num_experts).tolist(),
                send=[],
                receive=[],
                aligned_rows=sum(aligned(number, self.options.alignment) - number for number in rows),
            )
        )


def slice_of(weights: torch.Tensor, dimension: int, group: ExpertGroup) -> torch.Tensor:
    """This rank's slice of an expert's matrix along its inner size."""
    return weights.chunk(group.size, dim=dimension)[group.position]
