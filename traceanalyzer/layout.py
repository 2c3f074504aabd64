"""Which rank does what: parallel degrees, and rank to stage, replica and expert group.

Ranks are numbered with the pipeline dimension outermost, as Megatron-LM and torchtitan build their meshes:
`rank = (stage_rank * dp + replica) * tp + tensor_rank`. Expert groups are `ep` consecutive replicas of one stage.
"""

from __future__ import annotations

from dataclasses import dataclass

from traceanalyzer.errors import UsageError


@dataclass(frozen=True, slots=True)
class Layout:
    """Parallel degrees of a job. `ep` divides `dp`: experts are spread over data-parallel replicas."""

    pp: int = 1
    dp: int = 1
    tp: int = 1
    ep: int = 1

    def __post_init__(self) -> None:
        if min(self.pp, self.dp, self.tp, self.ep) < 1:
            raise UsageError(f"parallel degrees must be at least 1, got {self}", "give positive degrees")
        if self.dp % self.ep:
            raise UsageError(
                f"ep={self.ep} does not divide dp={self.dp}",
                "experts are spread over data-parallel replicas: choose ep among the divisors of dp",
            )

    @property
    def world_size(self) -> int:
        """Number of ranks."""
        return self.pp * self.dp * self.tp

    def pipeline_rank(self, rank: int) -> int:
        """Position of `rank` along its pipeline, 0 to pp-1."""
        return rank // (self.dp * self.tp)

    def replica(self, rank: int) -> int:
        """Data-parallel replica of `rank`, 0 to dp-1."""
        return rank // self.tp % self.dp

    def pipeline(self, rank: int) -> tuple[int, ...]:
        """The ranks of the pipeline that `rank` is part of, first stage first."""
        width = self.dp * self.tp
        return tuple(rank % width + stage * width for stage in range(self.pp))

    def replicas(self, rank: int) -> tuple[int, ...]:
        """The ranks that hold the same stage and tensor slice as `rank`."""
        first = self.pipeline_rank(rank) * self.dp * self.tp + rank % self.tp
        return tuple(first + replica * self.tp for replica in range(self.dp))

    def expert_group(self, rank: int) -> tuple[int, ...]:
        """The ranks that exchange tokens with `rank` (same pipeline position and tensor rank)."""
        first = self.replica(rank) // self.ep * self.ep
        base = self.pipeline_rank(rank) * self.dp * self.tp + rank % self.tp
        return tuple(base + (first + i) * self.tp for i in range(self.ep))
