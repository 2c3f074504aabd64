"""Weights, gradients and optimizer state by ZeRO stage, against the bytes of tensors that torch holds."""

from __future__ import annotations

from dataclasses import replace

import pytest

from traceanalyzer.model import ModelShape
from traceanalyzer.theory.memory.recipes import find_recipe
from traceanalyzer.theory.memory.sharding import Sharding
from traceanalyzer.theory.memory.stages import Holding
from traceanalyzer.theory.memory.states import local_parameters, state_bytes

torch = pytest.importorskip("torch", reason="tensors are torch's")

SHAPE = ModelShape(num_layers=3, hidden_size=32, num_heads=4, num_kv_heads=4, head_size=8, ffn_size=96, vocab_size=64)
WHOLE = Holding(num_dense=3, num_moe=0, embedding=True, head=True)
REPLICAS = 4


def matrices() -> list[tuple[int, ...]]:
    """Weights of the model by hand: embedding and head; per layer queries, keys, values, output, two of the MLP, two norms."""
    layer = [(32, 32)] * 4 + [(96, 32), (32, 96)] + [(32,)] * 2
    return [(64, 32), (64, 32), (32,), *layer * 3]


def held(zero: int) -> tuple[int, int, int]:
    """Bytes of weights, gradients and Adam's state that a rank holds after a step, each sharded as flat slices from its stage on."""
    weights = [torch.nn.Parameter(torch.randn(shape)) for shape in matrices()]
    sum((each**2).sum() for each in weights).backward()  # type: ignore[union-attr]
    own = [torch.nn.Parameter(each.detach().flatten().chunk(REPLICAS)[0].clone()) for each in weights]
    for part, each in zip(own, weights, strict=True):
        part.grad = each.grad.flatten().chunk(REPLICAS)[0].clone()  # type: ignore[union-attr]
    stepped = own if zero >= 1 else weights
    adam = torch.optim.Adam(stepped)
    adam.step()
    state = [value for entry in adam.state.values() for name, value in entry.items() if name != "step"]
    kept = own if zero >= 3 else weights
    gradients = [each.grad for each in (own if zero >= 2 else weights)]
    return tuple(sum(each.numel() * each.element_size() for each in some) for some in (kept, gradients, state))  # type: ignore[return-value,union-attr]


@pytest.mark.parametrize("zero", [0, 1, 2, 3])
def test_states_are_the_bytes_of_tensors_held(zero: int) -> None:
    shape = replace(SHAPE, gated_mlp=False)
    parameters = local_parameters(shape, 1, 1, 1, WHOLE)
    found = state_bytes(parameters, find_recipe("fp32"), Sharding(dp=REPLICAS, zero=zero))
    assert (found.weights, found.gradients, found.optimizer) == held(zero)
