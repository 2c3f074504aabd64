"""What is priced together: one place, and the axes of the arrays that hold what is tried there."""

from __future__ import annotations

from dataclasses import dataclass

from traceanalyzer.theory.memory.activations import Policy
from traceanalyzer.theory.planning.prices.pipelines import Pipeline


@dataclass(frozen=True, slots=True)
class Recompute:
    """What backward computes again: a policy, and so many layers of a rank whole; None: as few as make it fit."""

    policy: Policy
    num_layers: int | None = 0


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """Degrees but for DP, which is what remains of the devices."""

    tp: int
    cp: int
    pp: int
    ep: int = 1
    etp: int = 1

    def replicas(self, num_devices: int) -> int:
        """DP."""
        return num_devices // (self.tp * self.cp * self.pp)


@dataclass(frozen=True, slots=True)
class Axes:
    """What is tried at a place."""

    pipelines: tuple[Pipeline, ...]
    sizes: tuple[int, ...]
    zeros: tuple[int, ...]
    recomputes: tuple[Recompute, ...]
