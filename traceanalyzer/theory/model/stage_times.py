"""How long a forward, an input-gradient and a weight-gradient take on every stage, from times or from a model.

A pipeline cut into more stages does not compute more: both ways give the times of a cut into any number of stages.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from traceanalyzer.errors import DomainError, UsageError
from traceanalyzer.model import ModelShape
from traceanalyzer.theory.model.flops import stage_flops_per_token

NS_PER_S = 1e9


@dataclass(frozen=True, slots=True)
class StageTimes:
    """Nanoseconds of one microbatch on every stage of one model copy, first stage first."""

    forward_ns: tuple[int, ...]
    input_gradient_ns: tuple[int, ...]
    weight_gradient_ns: tuple[int, ...]

    @property
    def uniform(self) -> bool:
        """Whether all stages take the same time."""
        return all(len(set(times)) == 1 for times in (self.forward_ns, self.input_gradient_ns, self.weight_gradient_ns))

    def doubled(self) -> StageTimes:
        """The times of two copies of the model, one behind the other."""
        return StageTimes(self.forward_ns * 2, self.input_gradient_ns * 2, self.weight_gradient_ns * 2)


Cut = Callable[[int], StageTimes]
"""The times of a model cut into so many stages."""


def from_times(num_ranks: int, rank_ns: tuple[float, float, float], scale: Sequence[float] | None = None) -> Cut:
    """Times of a model that is cut evenly by `rank_ns`: forward, input- and weight-gradient of a 1/num_ranks of it.

    `scale` makes the parts unequal: one factor for each 1/num_ranks of the model, in the order of its layers; cuts
    into a multiple of num_ranks stages share them out. Raises `UsageError`.
    """
    if min(rank_ns) < 0 or sum(rank_ns) <= 0:
        raise UsageError("times must not be negative, and not all zero", "give positive times")
    if scale is not None and (len(scale) != num_ranks or min(scale) < 0):
        raise UsageError(
            f"{len(scale)} factors do not scale {num_ranks} stages", "give one factor of 0 or more per stage"
        )

    def cut(num_stages: int) -> StageTimes:
        if scale is not None and num_stages % num_ranks:
            raise UsageError(
                f"factors for {num_ranks} stages do not fit a cut into {num_stages}",
                "leave the factors out, or do not vary the number of stages",
            )
        factors = [1.0 if scale is None else scale[stage * num_ranks // num_stages] for stage in range(num_stages)]
        share = num_ranks / num_stages
        forward, inputs, weights = (tuple(round(time * share * factor) for factor in factors) for time in rank_ns)
        return StageTimes(forward, inputs, weights)

    return cut


def from_model(shape: ModelShape, sequence_length: int, num_tokens: int, flops_per_second: float) -> Cut:
    """Times of a model whose layers are dealt out as evenly as they go, at a rate that the devices reach.

    A weight's matrix multiply costs each gradient what it costs forward; attention scores have no weights, so their
    backward, twice their forward, is all input-gradient (Qi et al., arXiv 2401.10241, Table 1). The first stage has
    no embedding FLOPs, the last has the logits. Raises `DomainError` if there are more stages than layers.
    """

    def cut(num_stages: int) -> StageTimes:
        if num_stages > shape.num_layers:
            raise DomainError(
                f"{shape.num_layers} layers cannot be cut into {num_stages} stages", "ask for fewer stages or chunks"
            )
        split = [
            shape.num_layers * (s + 1) // num_stages - shape.num_layers * s // num_stages for s in range(num_stages)
        ]
        stages = stage_flops_per_token(shape, sequence_length, split)
        scores = [stage.core_attention for stage in stages]
        per_flop = num_tokens / flops_per_second * NS_PER_S
        return StageTimes(
            tuple(round(stage.forward * per_flop) for stage in stages),
            tuple(round((stage.forward + core) * per_flop) for stage, core in zip(stages, scores, strict=True)),
            tuple(round((stage.forward - core) * per_flop) for stage, core in zip(stages, scores, strict=True)),
        )

    return cut
