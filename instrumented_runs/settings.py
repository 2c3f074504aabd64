"""What a reference job is asked to do: plain data, handed to every rank as one JSON argument.

Nothing here needs torch, so that the command line can check a request before anything is launched.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from traceanalyzer.errors import UsageError

PROGRESS = "PROGRESS "
"""Lines of a rank's output that begin so are meant for whoever launched the job."""
FAILURE_FILE = "failures/rank{rank:05d}.json"
"""In the run folder: why a rank gave up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why a rank gave up."""

    rank: int
    reason: str
    at_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSettings:
    """What every kind of job has in common."""

    folder: str
    num_ranks: int
    num_steps: int = 5
    """Profiled steps."""
    num_unprofiled_steps: int = 4
    """Steps after the profiled ones; the first is left out of the median."""
    compute_mode: str = "paced"
    """`real` or `paced`; `auto` is settled before a job starts."""
    seed: int = 0
    timeout_s: int = 90
    """A rank that waits longer than this for another one gives up."""
    faults: tuple[str, ...] = ()
    launcher_pid: int = 0
    """Ranks end when this process has gone; 0: nobody to watch."""

    def __post_init__(self) -> None:
        for name in ("num_ranks", "num_steps", "timeout_s"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} must be at least 1, got {getattr(self, name)}", "give a positive number")


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineSettings(RunSettings):
    """A pipeline-parallel training job."""

    schedule: str = "1F1B"
    num_microbatches: int = 8
    num_chunks: int = 1
    """Stages per rank."""
    forward_ms: float = 50.0
    """Paced: forward of one microbatch through one rank's share of the model."""
    backward_ms: float = 100.0
    num_layers: int = 8
    hidden_size: int = 64
    num_heads: int = 4
    vocab_size: int = 64
    sequence_length: int = 32
    microbatch_size: int = 4

    @property
    def num_stages(self) -> int:
        """Stages of the whole pipeline."""
        return self.num_ranks * self.num_chunks


def encode(settings: RunSettings) -> str:
    """Settings as one line of JSON."""
    return msgspec.json.encode(settings).decode()


def resolve_compute_mode(asked: str, num_ranks: int, num_cores: int, *, has_cuda: bool) -> str:
    """`auto` becomes `real` where every rank and the launcher have a core of their own, or a GPU; else `paced`."""
    if asked != "auto":
        return asked
    return "real" if has_cuda or num_cores >= num_ranks + 1 else "paced"
