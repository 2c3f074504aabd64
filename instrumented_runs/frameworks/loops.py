"""The recorder around a loop whose code is not yours: an object or a module with a loop and a step.

torchtitan, whose trainer is an object:

    trainer = config.build()
    record_loop(trainer, "runs/mine")
    trainer.train()

Megatron-LM, whose loop is a module's functions (in `pretrain_gpt.py`, before `pretrain(...)`):

    from megatron.training import training
    record_loop(training, "runs/mine")

Their own profilers must be off: there is one Kineto per process.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from typing import ParamSpec, TypeVar, Unpack

from instrumented_runs.frameworks.callback import RecorderOptions
from instrumented_runs.recorder.recording import Recorder
from traceanalyzer.errors import UsageError
from traceanalyzer.job import Job

Asked = ParamSpec("Asked")
Found = TypeVar("Found")


def record_loop(
    owner: object,
    folder: str | os.PathLike[str],
    job: Job | Callable[[], Job] | None = None,
    *,
    loop: str = "train",
    step: str = "train_step",
    **options: Unpack[RecorderOptions],
) -> None:
    """Let `owner` record its next loops: each call of its function `step` inside its function `loop` is one step.

    Args:
        owner: an object or a module; its two functions are replaced by ones that do the same and record.
        folder: where the run goes; a later loop replaces what an earlier one recorded.
        job: what is known of the job, or what tells it as the loop begins, when the process group is there.
        loop: name of the function that runs all steps.
        step: name of the function that runs one, called by `loop` through `owner`.
        **options: window, ranks, measure_peak, as `Recorder` takes them.

    Raises:
        UsageError: `owner` has no such function.
    """
    for name in (loop, step):
        if not callable(getattr(owner, name, None)):
            raise UsageError(f"{owner!r:.80} has no function {name}", "name its functions with loop= and step=")
    current: list[Recorder] = []

    def recorded_loop(run: Callable[Asked, Found]) -> Callable[Asked, Found]:
        @functools.wraps(run)
        def looped(*args: Asked.args, **kwargs: Asked.kwargs) -> Found:
            with Recorder(folder, job() if callable(job) else job, **options) as recorder:
                current.append(recorder)
                try:
                    return run(*args, **kwargs)
                finally:
                    current.pop()

        return looped

    def recorded_step(run: Callable[Asked, Found]) -> Callable[Asked, Found]:
        @functools.wraps(run)
        def stepped(*args: Asked.args, **kwargs: Asked.kwargs) -> Found:
            done = run(*args, **kwargs)
            if current:
                current[-1].step()
            return done

        return stepped

    setattr(owner, loop, recorded_loop(getattr(owner, loop)))
    setattr(owner, step, recorded_step(getattr(owner, step)))
