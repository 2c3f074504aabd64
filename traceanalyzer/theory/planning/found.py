"""What a search has seen: the fastest, the front of time against memory, and what was rejected by how much."""

from __future__ import annotations

from dataclasses import dataclass, field

from traceanalyzer.theory.planning.job import Configuration

NUM_RANKED = 100
_MIB = 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranked:
    """A configuration that fits, with its price."""

    configuration: Configuration
    step_ns: float
    memory_bytes: float
    parts_ns: dict[str, float]


@dataclass(slots=True)
class Rejection:
    """Configurations that fell for one reason, and the one that came nearest."""

    reason: str
    count: int = 0
    nearest: str = ""
    by: float = float("inf")
    """How far the nearest was off, in `unit`."""
    unit: str = ""


@dataclass(slots=True)
class Found:
    """What a search has seen."""

    ranked: list[Ranked] = field(default_factory=list[Ranked])
    """Fastest first, at most `NUM_RANKED`."""
    pareto: list[Ranked] = field(default_factory=list[Ranked])
    """None is both slower and larger than another; fastest first."""
    rejections: dict[str, Rejection] = field(default_factory=dict[str, Rejection])
    best_by: dict[tuple[str, object], Ranked] = field(default_factory=dict[tuple[str, object], Ranked])
    """The fastest with this property: `("tp", 8)`, `("zero", 3)`, `("deep", True)` for M >= 4P, and so on."""
    num_priced: int = 0
    num_feasible: int = 0

    def reject(self, reason: str, count: int, nearest: str = "", by: float = float("inf"), unit: str = "") -> None:
        """Count rejected configurations, and keep the nearest."""
        each = self.rejections.setdefault(reason, Rejection(reason, unit=unit))
        each.count += count
        if by < each.by:
            each.by, each.nearest = by, nearest

    @property
    def slowest_ns(self) -> float:
        """What a configuration must be faster than to be ranked."""
        return self.ranked[-1].step_ns if len(self.ranked) == NUM_RANKED else float("inf")


def front(ranked: list[Ranked]) -> list[Ranked]:
    """Those that no other beats, fastest first; sizes within a MiB are alike."""
    found: list[Ranked] = []
    for each in sorted(ranked, key=lambda one: (one.step_ns, one.memory_bytes)):
        if not found or each.memory_bytes < found[-1].memory_bytes - _MIB:
            found.append(each)
    return found
