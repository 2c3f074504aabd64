"""The recorder as a callback of Lightning's Trainer.

    trainer = Trainer(..., callbacks=[RecorderCallback("runs/mine")])

Every optimizer step is a step, however many batches it accumulates. The trainer's own profiler must not be PyTorch's:
there is one Kineto per process.
"""

from __future__ import annotations

import os
from typing import Any, Unpack

try:
    from lightning.pytorch import Callback  # pyright: ignore[reportMissingImports]
except ImportError:
    from pytorch_lightning import Callback  # pyright: ignore[reportMissingImports]

from instrumented_runs.frameworks.callback import RecorderOptions, Recording
from instrumented_runs.frameworks.description import job_of_model
from traceanalyzer.job import Job


class RecorderCallback(Callback):
    """Records `fit` into `folder`."""

    def __init__(
        self, folder: str | os.PathLike[str], job: Job | None = None, **options: Unpack[RecorderOptions]
    ) -> None:
        """Nothing is recorded before `fit` begins to train.

        Args:
            folder: where the run goes.
            job: what is known of the job; `job_of_model` makes one from a model's settings.
            **options: window, ranks, measure_peak, as `Recorder` takes them.
        """
        super().__init__()
        self._recording = Recording(folder, options)
        self._job = job
        self._num_steps = 0

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:  # noqa: ANN401, ARG002 - the trainer's signature
        """The first batch is about to begin."""
        self._num_steps = trainer.global_step
        self._recording.begin(self._job or job_of_model())

    def on_train_batch_end(self, trainer: Any, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401, ARG002 - see above
        """A batch ended, and with it an optimizer step where none accumulates further."""
        if trainer.global_step != self._num_steps:
            self._num_steps = trainer.global_step
            self._recording.step()

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:  # noqa: ANN401, ARG002 - see above
        """The last batch ended."""
        self._recording.end()

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:  # noqa: ANN401, ARG002 - see above
        """Training failed: what was recorded is kept."""
        self._recording.abandon()
