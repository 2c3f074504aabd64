"""What a mixed job is asked to do."""

from __future__ import annotations

from dataclasses import dataclass

from instrumented_runs.settings import RunSettings
from traceanalyzer.errors import UsageError

RECOMPUTE = ("none", "selective", "full")
"""Nothing, attention, or whole layers are computed again in backward (`torch.utils.checkpoint`)."""
TORCH_ORDERS = ("1F1B", "GPipe")
"""Schedules that torch's own classes run with one stage per rank; others go through its runtime."""
SEQUENCE_CUTS = ("contiguous", "zigzag")
"""A context rank holds one run of tokens, or the chunks i and 2c − 1 − i of 2c."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MixSettings(RunSettings):
    """A decoder of Llama's form, or with experts, over a mesh `pp × dp × cp × tp`."""

    num_ranks: int = 0
    """0: what the degrees give."""
    pp: int = 1
    dp: int = 1
    cp: int = 1
    tp: int = 1
    ep: int = 1
    """Experts are spread over all replicas: 1, or `dp`."""
    zero: int = 0
    """0: DDP. 1 to 3: FSDP2, with weights kept (1, 2) or gathered for every pass (3)."""
    reduce_once: bool = False
    """Gradients are reduced once a step, not after every microbatch; ZeRO-0 and ZeRO-1 always do."""
    schedule: str = "1F1B"
    """With a pipeline; `Sequential` is the naive one, in which one rank computes at a time."""
    sequence_cut: str = "zigzag"
    recompute: str = "none"
    attention_us_per_pair: float = 2.0
    """Paced, with context parallelism: time per query, visible key and sequence, forward; backward takes twice as long."""
    num_layers: int = 2
    hidden_size: int = 32
    num_heads: int = 4
    num_kv_heads: int = 4
    ffn_size: int = 64
    vocab_size: int = 64
    num_experts: int = 0
    experts_per_token: int = 2
    sequence_length: int = 32
    num_microbatches: int = 2
    """Per replica and step."""
    microbatch_size: int = 2

    def __post_init__(self) -> None:
        product = self.pp * self.dp * self.cp * self.tp
        if self.num_ranks not in (0, product):
            raise UsageError(f"pp·dp·cp·tp is {product}, not {self.num_ranks}", "leave num_ranks out")
        object.__setattr__(self, "num_ranks", product)
        RunSettings.__post_init__(self)
        for name, known in (("recompute", RECOMPUTE), ("sequence_cut", SEQUENCE_CUTS), ("zero", range(4))):
            if getattr(self, name) not in known:
                raise UsageError(f"{name} is {getattr(self, name)!r}", f"known: {', '.join(map(str, known))}")
        self._check_sizes()
        self._check_mix()

    def _check_sizes(self) -> None:
        parts = 2 * self.cp if self.sequence_cut == "zigzag" else self.cp
        cuts = {
            "num_layers": (self.num_layers, self.pp),
            "num_heads": (self.num_heads, self.tp),
            "num_kv_heads": (self.num_kv_heads, self.tp),
            "num_heads over num_kv_heads": (self.num_heads, self.num_kv_heads),
            "hidden_size": (self.hidden_size, self.num_heads),
            "ffn_size": (self.ffn_size, self.tp),
            "sequence_length": (self.sequence_length, (parts if self.cp > 1 else 1) * self.tp),
        }
        for name, (size, degree) in cuts.items():
            if size % degree:
                raise UsageError(f"{name} {size} does not divide by {degree}", "choose a multiple")

    def _check_mix(self) -> None:
        """Mixes that nothing here makes are refused, not run as something else."""
        if self.ep not in (1, self.dp) or (self.ep > 1 and not self.num_experts):
            raise UsageError(
                f"ep={self.ep} with dp={self.dp}", "experts are over all replicas (ep = dp), in a model of experts"
            )
        if self.num_experts % max(self.ep, 1):
            raise UsageError(f"{self.num_experts} experts over {self.ep} ranks", "choose a multiple")
        if self.num_experts and (self.zero or self.tp > 1 or self.cp > 1):
            raise UsageError("experts go with pipelines and replicas here", "leave zero, tp and cp out")
        if self.num_experts and self.recompute != "none":
            raise UsageError("an exchange of experts is not computed again here", "leave recompute out")
        if self.cp > 1 and self.tp > 1:
            raise UsageError("ring attention does not run inside tensor-parallel ranks here", "choose cp or tp")
        if self.zero in (2, 3) and self.pp > 1 and not self.reduce_once:
            raise UsageError("torch's pipelines reduce gradients once a step", "set reduce_once = true")
