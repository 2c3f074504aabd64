"""The recorder as a callback of Hugging Face's Trainer.

    trainer = Trainer(..., callbacks=[RecorderCallback("runs/mine", sequence_length=2048)])

Every optimizer step is a step. The trainer's own profiler must be off: there is one Kineto per process.
"""

from __future__ import annotations

import os
from typing import Any, Unpack

from transformers import TrainerCallback  # pyright: ignore[reportMissingImports, reportAttributeAccessIssue]

from instrumented_runs.frameworks.callback import RecorderOptions, Recording
from instrumented_runs.frameworks.description import job_of_model


class RecorderCallback(TrainerCallback):
    """Records a Trainer's loop into `folder`, with the model's configuration in `run.json`."""

    def __init__(
        self, folder: str | os.PathLike[str], *, sequence_length: int = 0, **options: Unpack[RecorderOptions]
    ) -> None:
        """Nothing is recorded before training begins.

        Args:
            folder: where the run goes.
            sequence_length: tokens of every sequence as trained, padding included; MFU is withheld without it.
            **options: window, ranks, measure_peak, as `Recorder` takes them.
        """
        self._recording = Recording(folder, options)
        self._sequence_length = sequence_length

    def on_train_begin(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:  # noqa: ANN401, ARG002 - the trainer's signature
        """The first step is about to begin."""
        config = getattr(model, "config", None)
        settings = getattr(config, "to_dict", dict[str, object])()
        self._recording.begin(
            job_of_model(
                settings or None,
                dtype="bf16" if args.bf16 else "fp16" if args.fp16 else "float32",
                sequences_per_step=args.train_batch_size * args.gradient_accumulation_steps * args.world_size,
                sequence_length=self._sequence_length,
                recompute="full" if args.gradient_checkpointing else None,
            )
        )

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:  # noqa: ANN401, ARG002 - see above
        """An optimizer step ended."""
        self._recording.step()

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:  # noqa: ANN401, ARG002 - see above
        """The last step ended."""
        self._recording.end()
