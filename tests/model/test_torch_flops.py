"""Our count against torch's own counter over plain models on the meta device, in the full-attention convention."""

from __future__ import annotations

import pytest

from traceanalyzer.model import ModelShape
from traceanalyzer.theory.model.flops import Convention, Recompute, flops_per_token
from traceanalyzer.theory.model.parameters import parameters

torch = pytest.importorskip("torch")
flop_counter = pytest.importorskip("torch.utils.flop_counter")
checkpointing = pytest.importorskip("torch.utils.checkpoint")
plain_models = pytest.importorskip("plain_models")
pytestmark = pytest.mark.runs

BATCH, LENGTH = 2, 24


def counted(shape: ModelShape, recompute: Recompute) -> tuple[int, int]:
    """FLOPs of one forward and backward by torch's counter, and the model's parameters."""
    with torch.device("meta"):
        model = plain_models.Model(shape, recompute)
        tokens = torch.zeros(BATCH, LENGTH, dtype=torch.long)
    # Without early stop the recomputed forward runs to its end, the last matrix included, as the convention counts it.
    with flop_counter.FlopCounterMode(display=False) as counter, checkpointing.set_checkpoint_early_stop(enable=False):
        model(tokens, recompute).backward()
    return counter.get_total_flops(), sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.sweep(6)
@pytest.mark.parametrize("recompute", Recompute)
@pytest.mark.parametrize("name", plain_models.SHAPES)
def test_equal_to_torch(name: str, recompute: Recompute) -> None:
    shape = plain_models.SHAPES[name]
    flops, num_parameters = counted(shape, recompute)
    ours = flops_per_token(shape, LENGTH, Convention.FULL_ATTENTION, recompute=recompute)
    assert ours.hardware * BATCH * LENGTH == flops
    count = parameters(shape)
    assert count.total - count.norms == num_parameters  # the plain models have no norms
