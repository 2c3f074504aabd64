"""What training frameworks can run, as far as a plan chooses it."""

from __future__ import annotations

from dataclasses import dataclass

from traceanalyzer.errors import UsageError
from traceanalyzer.schedule import ScheduleName
from traceanalyzer.spelling import did_you_mean
from traceanalyzer.theory.memory.activations import Policy


@dataclass(frozen=True, slots=True, kw_only=True)
class Framework:
    """Choices that exist."""

    name: str
    schedules: tuple[ScheduleName, ...]
    zero: tuple[int, ...]
    zero_in_pipelines: tuple[int, ...]
    policies: tuple[Policy, ...]
    some_layers: bool
    """Whether so many layers of a rank can be recomputed whole."""
    expert_slices: bool
    """Whether ETP can differ from TP."""
    context: bool = True
    experts: bool = True
    most_zero_with_tp: int = 3
    even_stages: bool = False
    """Whether every stage must have as many layers."""


ANY = Framework(
    name="any",
    schedules=(
        ScheduleName("GPipe"),
        ScheduleName("1F1B"),
        ScheduleName("Interleaved1F1B"),
        ScheduleName("ZBH1"),
        ScheduleName("InterleavedZeroBubble"),
        ScheduleName("ZBVZeroBubble"),
        ScheduleName("DualPipe"),
        ScheduleName("DualPipeV"),
    ),
    zero=(0, 1, 2, 3),
    zero_in_pipelines=(0, 1, 2, 3),
    policies=(Policy.NONE, Policy.SELECTIVE, Policy.FULL),
    some_layers=True,
    expert_slices=True,
)
MEGATRON = Framework(
    name="megatron",
    schedules=(ScheduleName("1F1B"), ScheduleName("Interleaved1F1B")),
    zero=(0, 1),
    zero_in_pipelines=(0, 1),
    policies=(Policy.NONE, Policy.SELECTIVE, Policy.FULL),
    some_layers=True,
    expert_slices=True,
    even_stages=True,
)
TORCHTITAN = Framework(
    name="torchtitan",
    schedules=(
        ScheduleName("GPipe"),
        ScheduleName("1F1B"),
        ScheduleName("Interleaved1F1B"),
        ScheduleName("InterleavedZeroBubble"),
        ScheduleName("ZBVZeroBubble"),
        ScheduleName("DualPipeV"),
    ),
    zero=(2, 3),
    zero_in_pipelines=(2, 3),
    policies=(Policy.NONE, Policy.SELECTIVE, Policy.FULL),
    some_layers=False,
    expert_slices=False,
)
DEEPSPEED = Framework(
    name="deepspeed",
    schedules=(ScheduleName("1F1B"),),
    zero=(0, 1, 2, 3),
    zero_in_pipelines=(0, 1),
    policies=(Policy.NONE, Policy.FULL),
    some_layers=False,
    expert_slices=False,
    context=False,
    experts=False,
    most_zero_with_tp=2,
)
"""Its pipeline engine refuses ZeRO-2 and 3, its tensor parallelism (`autotp_size`) ZeRO-3. Experts and sequence parallelism are set in code there, not in its JSON."""

_KNOWN = {each.name: each for each in (ANY, MEGATRON, TORCHTITAN, DEEPSPEED)}


def find_framework(name: str) -> Framework:
    """The framework of this name. Raises `UsageError`."""
    if name.lower() not in _KNOWN:
        raise UsageError(
            f"there is no framework called '{name}'", f"{did_you_mean(name, list(_KNOWN))}known: {', '.join(_KNOWN)}"
        )
    return _KNOWN[name.lower()]
