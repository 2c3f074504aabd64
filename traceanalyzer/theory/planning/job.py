"""What is to be planned, and what a plan decides."""

from __future__ import annotations

from dataclasses import dataclass, field

from traceanalyzer.errors import UsageError
from traceanalyzer.model import ModelShape
from traceanalyzer.schedule import ScheduleName
from traceanalyzer.theory.interconnect.dimension_volumes import ContextExchange
from traceanalyzer.theory.interconnect.topology import Cluster
from traceanalyzer.theory.memory.activations import Kernels, Policy
from traceanalyzer.theory.memory.rank import Allowance, Training
from traceanalyzer.theory.memory.recipes import Recipe
from traceanalyzer.theory.memory.sharding import Sharding
from traceanalyzer.theory.planning.frameworks import ANY, Framework
from traceanalyzer.theory.planning.prices.gemm import FILL, Rates

_SEEN_SHARE = 0.985
"""Of the GiB in a device's name that its driver leaves: 78.8 of 80."""


_ACCUMULATION = ScheduleName("GradAccumulation")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PlanJob:
    """A model to train on so many devices of a cluster. Distinguished by identity: it is the key of many caches."""

    shape: ModelShape
    cluster: Cluster
    num_devices: int
    sequence_length: int
    batch_size: int
    """Sequences of a step, over all devices."""
    recipe: Recipe
    framework: Framework = ANY
    kernels: Kernels = field(default_factory=Kernels)
    allowance: Allowance = field(default_factory=Allowance)
    context_exchange: ContextExchange = ContextExchange.RING
    deduplicated: bool = False
    """A token travels once to each domain and is copied there (DeepEP); else once per expert."""
    load_ratio: float = 1.0
    """Tokens of the fullest expert rank over their mean."""
    hidden_data_parallel: bool = True
    """Gradients and weights travel while others are computed; what does not fit behind them is exposed."""
    memory_bytes: float | None = None
    """Of a device; None: by its name."""
    gemm_fill: float = FILL
    """See `prices.gemm`."""
    host_share: float = 0.0
    """Time in which the device waits for its host, over the time in which it computes; known of measured runs only."""
    step_factor: float = 1.0
    """Measured step of such a run over its prediction: what no other number explains."""

    def __post_init__(self) -> None:
        """Refuse what cannot be planned. Raises `UsageError`."""
        if self.shape.num_layers == 0:
            raise UsageError("the model is not described", "give a preset or a configuration file")
        if min(self.num_devices, self.sequence_length, self.batch_size) < 1:
            raise UsageError("devices, sequence length and batch size must be at least 1", "give positive numbers")
        if self.host_share < 0 or self.step_factor <= 0:
            raise UsageError("a calibrated figure is negative", "calibrate on a run with measured steps")
        if self.load_ratio < 1:
            raise UsageError(
                f"the load ratio must be at least 1, got {self.load_ratio}", "the fullest rank has at least the mean: 1"
            )

    @property
    def capacity_bytes(self) -> float:
        """What a device holds. Vendors name GiB; context and ECC are the allowance's."""
        if self.memory_bytes is not None:
            return self.memory_bytes
        return self.cluster.spec.memory_bytes / 1e9 * 2**30 * _SEEN_SHARE

    @property
    def peak(self) -> float:
        """Dense 16-bit FLOP/s of a device: what MFU is measured against, whatever format layers multiply in."""
        return self.cluster.spec.peak("bf16")

    @property
    def format(self) -> str:
        """Number format that layers multiply in."""
        if self.recipe.linear_input < 2 and "fp8" in self.cluster.spec.flops_per_second:
            return "fp8"
        return "fp32" if self.recipe.linear_input > 2 else "bf16"

    @property
    def rates(self) -> Rates:
        """What matrix multiplies of layers reach; in fp8 where the recipe keeps fp8 inputs and the device has it."""
        return Rates(
            flops_per_second=self.cluster.spec.peak(self.format) * self.cluster.gemm,
            memory_bytes_per_second=self.cluster.spec.memory_bytes_per_second * self.cluster.memory,
            units=self.cluster.units,
            fill=self.gemm_fill,
        )

    @property
    def tokens_per_step(self) -> int:
        """Over all devices."""
        return self.batch_size * self.sequence_length


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """What a plan decides."""

    tp: int = 1
    cp: int = 1
    pp: int = 1
    dp: int = 1
    ep: int = 1
    etp: int = 1
    zero: int = 1
    schedule: ScheduleName = _ACCUMULATION
    num_chunks: int = 1
    microbatch_size: int = 1
    num_microbatches: int = 1
    policy: Policy = Policy.NONE
    num_recomputed_layers: int = 0
    """Of every rank, recomputed whole; the others as the policy says."""

    @property
    def sharding(self) -> Sharding:
        """The degrees. Raises `DomainError` if they make no layout."""
        return Sharding(tp=self.tp, cp=self.cp, pp=self.pp, dp=self.dp, ep=self.ep, etp=self.etp, zero=self.zero)

    def training(self, job: PlanJob) -> Training:
        """What a rank is to hold."""
        return Training(
            shape=job.shape,
            recipe=job.recipe,
            sequence_length=job.sequence_length,
            microbatch_size=self.microbatch_size,
            num_microbatches=self.num_microbatches,
            schedule=self.schedule,
            num_chunks=self.num_chunks,
            policy=self.policy,
            num_recomputed_layers=self.num_recomputed_layers or None,
            kernels=job.kernels,
        )

    def text(self) -> str:
        """One line."""
        parts = [
            f"{name}{value}"
            for name, value in (("TP", self.tp), ("CP", self.cp), ("PP", self.pp), ("DP", self.dp), ("EP", self.ep))
            if value > 1
        ]
        if self.etp > 1:
            parts.append(f"ETP{self.etp}")
        chunks = f" v{self.num_chunks}" if self.num_chunks > 1 else ""
        parts += [f"ZeRO-{self.zero}", f"{self.schedule}{chunks}" if self.pp > 1 else ""]
        parts.append(f"{self.num_microbatches} x {self.microbatch_size}")
        parts.append(self.recompute_text())
        return " ".join(part for part in parts if part)

    def recompute_text(self) -> str:
        """What backward computes again, in words; empty for nothing."""
        if self.num_recomputed_layers:
            plural = "s" if self.num_recomputed_layers > 1 else ""
            return f"recompute {self.num_recomputed_layers} layer{plural}"
        return "" if self.policy is Policy.NONE else f"recompute {self.policy}"
