"""How a model and its tokens are divided over ranks."""

from __future__ import annotations

from dataclasses import dataclass

from traceanalyzer.errors import DomainError
from traceanalyzer.model import ModelShape


@dataclass(frozen=True, slots=True, kw_only=True)
class Sharding:
    """Parallel degrees. Experts are spread over `ep` ranks of the `dp * cp * tp` that share a stage, each cut `etp`-fold."""

    tp: int = 1
    cp: int = 1
    pp: int = 1
    dp: int = 1
    ep: int = 1
    etp: int = 1
    zero: int = 0
    """ZeRO stage: from 1 on the optimizer's state is divided over replicas, from 2 gradients, from 3 weights too."""
    sequence_parallel: bool = True
    """Between tensor-parallel regions every rank keeps its share of the tokens (Korthikanti et al., arXiv 2205.05198)."""

    def __post_init__(self) -> None:
        """Refuse degrees that make no layout. Raises `DomainError`."""
        if min(self.tp, self.cp, self.pp, self.dp, self.ep, self.etp) < 1 or self.zero not in range(4):
            raise DomainError(
                f"these degrees do not form a layout: {self}", "degrees are at least 1, the ZeRO stage is 0 to 3"
            )
        if self.stage_ranks % (self.ep * self.etp):
            raise DomainError(
                f"ep={self.ep} times etp={self.etp} does not divide the {self.stage_ranks} ranks of a stage",
                "experts are spread over dp * cp * tp ranks",
            )

    @property
    def stage_ranks(self) -> int:
        """Ranks that share one pipeline position."""
        return self.dp * self.cp * self.tp

    @property
    def replicas(self) -> int:
        """Ranks that hold the same weights outside experts: what ZeRO divides their states by."""
        return self.dp * self.cp

    @property
    def expert_replicas(self) -> int:
        """Ranks that hold the same experts."""
        return self.stage_ranks // (self.ep * self.etp)

    @property
    def token_split(self) -> int:
        """By how much tokens are divided between tensor-parallel regions."""
        return self.tp if self.sequence_parallel else 1


def check(shape: ModelShape, sharding: Sharding) -> None:
    """Raise `DomainError` where heads or experts cannot be divided so."""
    kv = shape.num_heads if shape.latent_attention else shape.num_kv_heads
    if shape.num_heads % sharding.tp or (kv % sharding.tp and sharding.tp % kv):
        raise DomainError(
            f"{shape.num_heads} heads and {kv} key and value heads do not divide over tp={sharding.tp}",
            "choose a divisor of the number of heads",
        )
    if max(sharding.ep, sharding.etp) > 1 and not shape.num_experts:
        raise DomainError("a model without experts has no expert parallelism", "ask for ep=1 and etp=1")
    if shape.num_experts and shape.num_experts % sharding.ep:
        raise DomainError(
            f"{shape.num_experts} experts do not divide over ep={sharding.ep}", "choose a divisor of the experts"
        )


def local_kv_heads(shape: ModelShape, tp: int) -> int:
    """Key and value heads of a rank; below one per rank they are repeated."""
    return max(1, shape.num_kv_heads // tp)
