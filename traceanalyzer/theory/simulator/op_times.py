"""How long everything in a simulated step takes: the frozen input of `simulate`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from traceanalyzer.schedule import Action

PerStage = int | Sequence[int]
"""Nanoseconds for every stage alike, or one number per stage."""


class PairMode(StrEnum):
    """How a rank runs an overlapped forward and backward."""

    OVERLAPPED = "overlapped"
    """As one op: both inputs are awaited at its start, both messages leave at its end."""
    SERIAL = "serial"
    """One after the other, each message leaving as soon as it exists."""
    SERIAL_LATE = "serial_late"
    """One after the other, both messages leaving after the second: PyTorch 2.13 without a function of its user's."""


class SendMode(StrEnum):
    """What a message costs its sender."""

    ASYNC = "async"
    """Nothing: the rank goes on computing."""
    BLOCKING = "blocking"
    """The rank is held until the message has arrived."""
    RENDEZVOUS = "rendezvous"
    """Sender and receiver are held together from when both are there: NCCL without batched sends and receives."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OpTimes:
    """Durations of every op, and what a message costs. All times in integer nanoseconds, per op on one stage.

    A rank with v chunks runs v ops of a v-th of its time each: what is given here is the time of one chunk.
    """

    forward_ns: PerStage
    input_gradient_ns: PerStage = 0
    weight_gradient_ns: PerStage = 0
    backward_ns: PerStage | None = None
    """Full backward; None: input- and weight-gradient together."""
    recompute_ns: PerStage = 0
    """Forward run again before the gradients: added to every full backward or input-gradient."""
    exact_ns: Mapping[Action, int] | None = None
    """Durations of single actions; they win over all of the above."""
    pairs: PairMode = PairMode.OVERLAPPED
    pair_share: float = 1.0
    """Duration of an overlapped pair as a share of its forward and backward one after the other."""
    hop_ns: int = 0
    """Latency of a message between different ranks."""
    message_bytes: int = 0
    """Size of a message: one activation or gradient at a stage boundary."""
    bytes_per_second: float | None = None
    """Bandwidth of a link in one direction; messages on one link follow each other. None: unlimited."""
    sends: SendMode = SendMode.ASYNC
    gradient_reduction_ns: PerStage = 0
    """Exposed gradient reduction of a stage after its rank's last op."""
    optimizer_ns: PerStage = 0
    """Optimizer of a stage; it starts when every rank has reduced its gradients (the gradient norm needs them all)."""

    @property
    def occupancy_ns(self) -> int:
        """How long one message occupies its link."""
        return 0 if self.bytes_per_second is None else round(self.message_bytes / self.bytes_per_second * 1e9)


def per_stage(value: PerStage, num_stages: int) -> list[int]:
    """One number per stage."""
    return [value] * num_stages if isinstance(value, int) else list(value)


def durations(times: OpTimes, num_stages: int) -> Callable[[Action], int]:
    """A function that gives the duration of an action in nanoseconds."""
    forward = per_stage(times.forward_ns, num_stages)
    recompute = per_stage(times.recompute_ns, num_stages)
    weight = per_stage(times.weight_gradient_ns, num_stages)
    bare = per_stage(times.input_gradient_ns, num_stages)
    full = [a + b for a, b in zip(bare, weight, strict=True)]
    if times.backward_ns is not None:
        full = per_stage(times.backward_ns, num_stages)
    backward = [a + b for a, b in zip(full, recompute, strict=True)]
    gradient = [a + b for a, b in zip(bare, recompute, strict=True)]
    by_phase = {"F": forward, "B": backward, "I": gradient, "W": weight}
    exact = times.exact_ns

    def duration(action: Action) -> int:
        return by_phase[action.phase.value][action.stage]

    def exact_duration(action: Action) -> int:
        known = exact.get(action) if exact else None
        return duration(action) if known is None else known

    return exact_duration if exact else duration
