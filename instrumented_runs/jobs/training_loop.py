"""The loop every reference job runs: warm-up, recorded steps, unrecorded steps."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path

from instrumented_runs.pacing.faults import Faults
from instrumented_runs.pipeline.host_staging import choose_backend
from instrumented_runs.recorder.capture import Window
from instrumented_runs.recorder.recording import Recorder
from instrumented_runs.settings import RunSettings
from instrumented_runs.worker import announce
from traceanalyzer.job import Job

WARMUP_STEPS = 2
"""Steps before the recorded ones; in the first, torch makes connections and agrees on the sizes of messages."""


def run_steps(
    settings: RunSettings, job: Job, faults: Faults, train_step: Callable[[Recorder, int], float | None]
) -> None:
    """Run `train_step(recorder, step)` for every step; the rank that gets a loss from it reports the loss."""
    _, communication = choose_backend(int(os.environ.get("LOCAL_WORLD_SIZE", settings.num_ranks)))
    job = dataclasses.replace(job, extras={**job.extras, "communication": communication})
    window = Window(WARMUP_STEPS - 1, 1, settings.num_steps)
    num_steps = WARMUP_STEPS + settings.num_steps + settings.num_unprofiled_steps
    with Recorder(settings.folder, job, window, clock_error_ns=faults.clock_error_ns()) as recorder:
        for step in range(num_steps):
            faults.begin_step(step)
            loss = train_step(recorder, step)
            record = recorder.step(loss)
            if loss is not None:
                kind = "profiled" if record.profiled else "warm-up" if step < WARMUP_STEPS else "unprofiled"
                seconds = (record.end_ns - record.start_ns) / 1e9
                announce(f"step {step + 1} of {num_steps}  loss {loss:.4f}  {seconds:.2f} s  {kind}")
    faults.end_run(Path(settings.folder))
