"""FLOPs of one step of the job: counted from the model's shape, declared, or read from recorded shapes."""

from __future__ import annotations

from dataclasses import dataclass

from traceanalyzer.gaps.efficiency.declaration import Training
from traceanalyzer.theory.model.flops import Convention, Recompute, flops_per_token


@dataclass(frozen=True, slots=True, kw_only=True)
class StepFlops:
    """Over all devices."""

    total: float
    """What the model needs, forward and backward."""
    hardware: float
    """With what backward computes again; equal to `total` where nothing is known of that."""
    attention: float | None
    """Core attention, forward and backward, of `total`; None if the count does not separate it."""
    recomputed_attention: float
    convention: str

    @property
    def recomputed(self) -> float:
        """What backward computes again."""
        return self.hardware - self.total


def step_flops(trained: Training, convention: Convention = Convention.EXACT_CAUSAL) -> StepFlops | None:
    """FLOPs of a step; None in a convention that cannot be counted without the model's shape."""
    if trained.flops is not None:
        per_step = trained.flops.of_step(trained.tokens_per_step)
        if per_step is None or convention is not Convention.EXACT_CAUSAL:
            return None
        return StepFlops(
            total=per_step,
            hardware=per_step,
            attention=None,
            recomputed_attention=0.0,
            convention=trained.flops.basis,
        )
    if trained.model is None or trained.tokens_per_step is None or trained.sequence_length is None:
        return None
    counted = flops_per_token(trained.model, trained.sequence_length, convention, recompute=trained.recompute)
    tokens = trained.tokens_per_step
    return StepFlops(
        total=counted.total * tokens,
        hardware=counted.hardware * tokens,
        attention=3.0 * counted.core_attention * tokens,
        recomputed_attention=0.0 if trained.recompute is Recompute.NONE else float(counted.core_attention * tokens),
        convention=counted.convention.value,
    )
