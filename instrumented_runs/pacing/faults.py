"""Faults planted into a run on purpose, written `kind:key=value,key=value`.

    die:rank=2,step=3                rank 2 is killed when step 3 begins
    raise:rank=2,step=3              rank 2 raises an exception instead
    hang:rank=2,step=3               rank 2 waits for ever and calls nothing more
    stop:rank=2,step=3               rank 2 is stopped (SIGSTOP)
    full:rank=2,step=3               rank 2 can write no file of more than 16 kB any more, as if its disk were full
    slow_stage:stage=1,factor=1.3    computations on stage 1 take 1.3 times as long (on every replica)
    slow_rank:rank=1,factor=1.3      computations on rank 1 do
    jitter:share=0.1                 lengths of computations vary: standard deviation 10%
    stall:rank=1,ms=40,position=5    rank 1's host does nothing for 40 ms before the 5th computation of every step
    delay_link:source=1,target=2,ms=20   what rank 1 sends to rank 2 arrives 20 ms later
    clock:rank=2,ms=40               rank 2's clock is 40 ms ahead
    missing:rank=3                   rank 3's trace is lost

A delayed link of an expert job makes every all-to-all with bytes from source to target end later on the target.

The planted faults are written to a file outside the run's folder, so that an analysis can be tested against it.
"""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from traceanalyzer.errors import OutputError, UsageError
from traceanalyzer.job import TRACE_FILE

KEYS: dict[str, tuple[str, ...]] = {
    "die": ("rank", "step"),
    "raise": ("rank", "step"),
    "hang": ("rank", "step"),
    "stop": ("rank", "step"),
    "full": ("rank", "step"),
    "slow_stage": ("stage", "factor"),
    "slow_rank": ("rank", "factor"),
    "jitter": ("share",),
    "stall": ("rank", "ms", "position"),
    "delay_link": ("source", "target", "ms"),
    "clock": ("rank", "ms"),
    "missing": ("rank",),
}
"""Kind of fault to the keys it needs."""
PACED_ONLY = ("slow_stage", "slow_rank", "jitter")
"""They change the length of computations, which only a paced run sets."""
PIPELINE_ONLY = ("slow_stage", "stall")
BETWEEN_RANKS = ("delay_link",)
"""They mean nothing to a job whose ranks send nothing to single others."""
_FULL_BYTES = 16_384


@dataclass(frozen=True, slots=True)
class Fault:
    """One planted fault."""

    kind: str
    values: dict[str, float]


def parse_fault(text: str) -> Fault:
    """Read one fault. Raises `UsageError` naming what is wrong with it."""
    kind, _, rest = text.partition(":")
    if kind not in KEYS:
        raise UsageError(f"there is no fault called '{kind}'", f"known faults: {', '.join(KEYS)}")
    hint = f"write {kind}:" + ",".join(f"{key}=…" for key in KEYS[kind])
    try:
        values = {key: float(value) for key, value in (pair.split("=") for pair in rest.split(",") if pair)}
    except ValueError:
        raise UsageError(f"'{text}' is not a fault: every value is a number", hint) from None
    if set(values) != set(KEYS[kind]):
        raise UsageError(f"fault '{text}' needs exactly {', '.join(KEYS[kind])}", hint)
    if kind != "clock" and min(values.values()) < 0:
        raise UsageError(f"fault '{text}' has a negative value", hint)
    return Fault(kind, values)


def check_faults(texts: Iterable[str], kind: str, compute_mode: str, num_ranks: int) -> None:
    """Raises `UsageError` on a fault that this job cannot have."""
    for fault in map(parse_fault, texts):
        if fault.kind in PACED_ONLY and compute_mode != "paced":
            raise UsageError(f"{fault.kind} stretches the pace, and this run computes for real", "add --compute paced")
        if fault.kind in PIPELINE_ONLY and kind != "pipeline":
            raise UsageError(f"{fault.kind} does not apply to a job of kind '{kind}'", "plant it into a pipeline")
        if fault.kind in BETWEEN_RANKS and kind == "dense":
            raise UsageError(
                f"{fault.kind} does not apply to a job of kind '{kind}'", "plant it into a pipeline or experts"
            )
        for key in ("rank", "source", "target"):
            if not 0 <= fault.values.get(key, 0) < num_ranks:
                raise UsageError(f"{fault.kind} names rank {fault.values[key]:g} of {num_ranks}", "ranks count from 0")


def write_truth(path: Path, folder: Path, texts: Iterable[str]) -> None:
    """Say in `path` what was planted into the run at `folder`. Raises `UsageError` if that lies inside the run.

    Raises `OutputError` if it cannot be written.
    """
    if path.absolute().is_relative_to(folder.absolute()):
        raise UsageError(
            f"{path} lies inside the run", "keep the truth outside the run, so that an analysis does not find it"
        )
    faults = [{"kind": fault.kind, **fault.values} for fault in map(parse_fault, texts)]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"run": folder.name, "faults": faults}, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise OutputError(f"{path}: cannot be written: {error.strerror or error}", "give another path") from None


class Faults:
    """The faults of a run, as one rank meets them."""

    def __init__(self, texts: Iterable[str] = (), rank: int = 0, seed: int = 0) -> None:
        self._faults = [parse_fault(text) for text in texts]
        self._rank = rank
        self._random = random.Random(seed * 1009 + rank)  # noqa: S311 - no secret
        self._position = 0

    def begin_step(self, step: int) -> None:
        """Whatever strikes this rank when `step` begins."""
        self._position = 0
        for fault in self._mine(*_ENDINGS):
            if fault.values["step"] == step:
                _ENDINGS[fault.kind](step)

    def before_action(self) -> None:
        """Whatever keeps this rank from starting its next computation."""
        self._position += 1
        for fault in self._mine("stall"):
            if fault.values["position"] == self._position:
                time.sleep(fault.values["ms"] / 1e3)

    def stretch(self, stage: int | None = None) -> float:
        """By what the next computation takes longer."""
        factor = 1.0
        for fault in self._faults:
            slow_stage = fault.kind == "slow_stage" and fault.values["stage"] == stage
            slow_rank = fault.kind == "slow_rank" and fault.values["rank"] == self._rank
            if slow_stage or slow_rank:
                factor *= fault.values["factor"]
            elif fault.kind == "jitter":
                factor *= max(0.0, self._random.gauss(1.0, fault.values["share"]))
        return factor

    def link_delays_s(self) -> dict[int, float]:
        """Destination rank to the delay of what this rank sends there."""
        links = [fault for fault in self._faults if fault.kind == "delay_link"]
        return {int(f.values["target"]): f.values["ms"] / 1e3 for f in links if f.values["source"] == self._rank}

    def incoming_delays_s(self) -> dict[int, float]:
        """Source rank to the delay of what it sends to this rank."""
        links = [fault for fault in self._faults if fault.kind == "delay_link"]
        return {int(f.values["source"]): f.values["ms"] / 1e3 for f in links if f.values["target"] == self._rank}

    def clock_error_ns(self) -> int:
        """How far this rank's clock is ahead."""
        return sum(int(fault.values["ms"] * 1e6) for fault in self._mine("clock"))

    def end_run(self, folder: Path) -> None:
        """Whatever befalls what this rank has written."""
        for _ in self._mine("missing"):
            (folder / TRACE_FILE.format(rank=self._rank)).unlink(missing_ok=True)

    def _mine(self, *kinds: str) -> list[Fault]:
        return [fault for fault in self._faults if fault.kind in kinds and fault.values["rank"] == self._rank]


def _die(_step: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _raise(step: int) -> None:
    raise RuntimeError(f"planted fault in step {step}")


def _hang(_step: int) -> None:
    while True:
        time.sleep(0.1)


def _stop(_step: int) -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


def _fill(_step: int) -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # a write then fails with EFBIG instead
    resource.setrlimit(resource.RLIMIT_FSIZE, (_FULL_BYTES, _FULL_BYTES))


_ENDINGS: dict[str, Callable[[int], None]] = {"die": _die, "raise": _raise, "hang": _hang, "stop": _stop, "full": _fill}
"""What befalls a rank when a step begins, by the kind of fault."""
