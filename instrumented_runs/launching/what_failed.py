"""Which rank is at fault where a job failed, in which step and why: from what ranks, torchrun and the launcher's watch say."""

from __future__ import annotations

import signal
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import NamedTuple

import msgspec

from instrumented_runs.launching.log_causes import cause_in, last_error
from instrumented_runs.launching.nodes import Nodes
from instrumented_runs.settings import FAILURE_FILE, Failure
from traceanalyzer.errors import JobError
from traceanalyzer.job import STEPS_FILE, StepRecord

LOG_FILE = "log.txt"
"""In the run folder: everything the ranks and torchrun printed."""


class Ends(NamedTuple):
    """What the launcher saw of ranks that did not end as they should."""

    deaths: Mapping[int, int]
    """Rank to exit status of those that torchrun saw fail first; a negative one is a signal."""
    stopped: Collection[int]
    """Ranks that somebody stopped (SIGSTOP), and that were ended for it."""


def failure(folder: Path, status: int, ends: Ends, nodes: Nodes, num_ranks: int) -> JobError:
    """The error that names the rank at fault, its step and the reason."""
    hint = f"what the other ranks wrote is kept in {folder}; all output is in {folder / LOG_FILE}"
    notes = [
        msgspec.json.decode(p.read_bytes(), type=Failure)
        for p in sorted(folder.glob(FAILURE_FILE.replace("{rank:05d}", "*")))
    ]
    from traceanalyzer.traces.run_status import hung_ranks, read_statuses  # noqa: PLC0415 - slow, and only of failed jobs

    if ends.stopped:
        rank = min(ends.stopped)
        return JobError(f"rank {rank} failed {_where(folder, rank)}: it was stopped (SIGSTOP)", hint)
    hung = hung_ranks(read_statuses([folder]))
    if hung:
        rank, calls = hung[0].record.rank, hung[0].calls.split(" < ")[0]
        where = f", last in {calls}" if calls else ""
        return JobError(f"rank {rank} hung {_where(folder, rank)}{where}: other ranks gave up waiting", hint)
    log = (folder / LOG_FILE).read_text(encoding="utf-8", errors="replace")
    cause = None if notes else cause_in(log, nodes, num_ranks)
    if cause is not None:
        return JobError(
            f"the job did not start: {cause.reason}", f"{cause.remedy}; all output is in {folder / LOG_FILE}"
        )
    signals = {rank: _signal(code) for rank, code in ends.deaths.items() if rank not in {note.rank for note in notes}}
    killed = {rank: number for rank, number in signals.items() if number is not None}
    if killed:
        rank, number = min(killed.items())
        reason = f"ended by signal {int(number)} ({number.name})"
    elif notes:
        first = min(notes, key=lambda note: note.at_ns)
        rank, reason = first.rank, first.reason
    elif ends.deaths:
        rank, code = min(ends.deaths.items())
        reason = last_error(log) or f"ended with exit status {code}"
    else:
        return JobError(f"the job failed: {last_error(log) or f'torchrun ended with status {status}'}", hint)
    return JobError(f"rank {rank} failed {_where(folder, rank)}: {reason}", hint)


def _signal(code: int) -> signal.Signals | None:
    """The signal that ended a process of this exit status; None if it ended otherwise."""
    number = -code if code < 0 else code - 128
    return signal.Signals(number) if number in set(signal.Signals) else None


def _where(folder: Path, rank: int) -> str:
    last = last_step(folder, rank)
    return "before its first step ended" if last is None else f"in step {last + 1}"


def last_step(folder: Path, rank: int) -> int | None:
    """The last step that `rank` finished, by its own record."""
    path = folder / STEPS_FILE.format(rank=rank)
    lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
    return msgspec.json.decode(lines[-1], type=StepRecord).step if lines else None
