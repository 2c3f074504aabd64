"""Which rank does what: parallel degrees, and rank to stage, replica and expert group.

Ranks are numbered with the pipeline dimension outermost, as Megatron-LM and torchtitan build their meshes:
`rank = ((stage_rank * dp + replica) * cp + context_rank) * tp + tensor_rank`. Expert groups are `ep` consecutive ranks
of one stage and one tensor rank, context ranks before replicas.
"""

from __future__ import annotations

from dataclasses import dataclass

from traceanalyzer.errors import UsageError


@dataclass(frozen=True, slots=True)
class Layout:
    """Parallel degrees of a job. `ep` divides `dp · cp`: experts are spread over replicas and their context ranks."""

    pp: int = 1
    dp: int = 1
    tp: int = 1
    ep: int = 1
    cp: int = 1

    def __post_init__(self) -> None:
        if min(self.pp, self.dp, self.tp, self.ep, self.cp) < 1:
            raise UsageError(f"parallel degrees must be at least 1, got {self}", "give positive degrees")
        if self.dp * self.cp % self.ep:
            spread = f"dp={self.dp}" if self.cp == 1 else f"dp·cp={self.dp * self.cp}"
            raise UsageError(
                f"ep={self.ep} does not divide {spread}",
                "experts are spread over data-parallel replicas: choose ep among the divisors of dp",
            )

    @property
    def world_size(self) -> int:
        """Number of ranks."""
        return self.pp * self.width

    @property
    def width(self) -> int:
        """Ranks of one stage of all pipelines: the distance between neighbouring stages."""
        return self.dp * self.cp * self.tp

    @property
    def num_batch_parts(self) -> int:
        """Parts that the tokens of a step are cut into: a replica's sequences, and of each what a context rank holds."""
        return self.dp * self.cp

    def pipeline_rank(self, rank: int) -> int:
        """Position of `rank` along its pipeline, 0 to pp-1."""
        return rank // self.width

    def replica(self, rank: int) -> int:
        """Data-parallel replica of `rank`, 0 to dp-1."""
        return rank // (self.cp * self.tp) % self.dp

    def pipeline(self, rank: int) -> tuple[int, ...]:
        """The ranks of the pipeline that `rank` is part of, first stage first."""
        return tuple(rank % self.width + stage * self.width for stage in range(self.pp))

    def replicas(self, rank: int) -> tuple[int, ...]:
        """The ranks that hold the same stage, context slice and tensor slice as `rank`."""
        stride = self.cp * self.tp
        first = self.pipeline_rank(rank) * self.width + rank % stride
        return tuple(first + replica * stride for replica in range(self.dp))

    def context_group(self, rank: int) -> tuple[int, ...]:
        """The ranks that hold the other parts of the sequences of `rank`."""
        first = rank - rank // self.tp % self.cp * self.tp
        return tuple(first + place * self.tp for place in range(self.cp))

    def tensor_group(self, rank: int) -> tuple[int, ...]:
        """The ranks that hold the other slices of the tensors of `rank`."""
        first = rank - rank % self.tp
        return tuple(range(first, first + self.tp))

    def expert_group(self, rank: int) -> tuple[int, ...]:
        """The ranks that exchange tokens with `rank` (same pipeline position and tensor rank)."""
        first = rank % self.width // self.tp // self.ep * self.ep
        base = self.pipeline_rank(rank) * self.width + rank % self.tp
        return tuple(base + (first + place) * self.tp for place in range(self.ep))


@dataclass(frozen=True, slots=True, kw_only=True)
class DeclaredDegrees:
    """Parallel degrees as a user names them: `dp` left out is what the others leave of the job's ranks."""

    pp: int = 1
    tp: int = 1
    ep: int = 1
    cp: int = 1
    dp: int | None = None

    def __post_init__(self) -> None:
        """Raise `UsageError` for degrees that no job can have."""
        Layout(pp=self.pp, dp=self.ep if self.dp is None else self.dp, tp=self.tp, ep=self.ep, cp=self.cp)

    def layout(self, num_ranks: int) -> Layout:
        """The layout of a job of `num_ranks`. Raises `UsageError` if the degrees do not fit."""
        inner = self.pp * self.tp * self.cp
        dp = max(num_ranks // inner, 1) if self.dp is None else self.dp
        if inner * dp != num_ranks:
            sizes = {"pp": self.pp, "dp": dp, "tp": self.tp, "cp": self.cp}
            named = " · ".join(f"{name}={size}" for name, size in sizes.items() if size > 1) or "dp=1"
            raise UsageError(
                f"the declared degrees {named} make {inner * dp} ranks, and the job has {num_ranks}",
                "correct Job.of(pp=, dp=, tp=, cp=); a degree that is not named is 1, and dp what is left",
            )
        return Layout(pp=self.pp, dp=dp, tp=self.tp, ep=self.ep, cp=self.cp)
