"""torchtitan's trainer has the loop that `record_loop` takes; running it needs a GPU."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="the recorder needs torch")
trainers = pytest.importorskip("torchtitan.trainer", reason="torchtitan is not installed")

from instrumented_runs.frameworks.loops import record_loop  # noqa: E402


def test_its_loop_calls_the_step_through_the_trainer(tmp_path: Path) -> None:
    assert "self.train_step(" in inspect.getsource(trainers.Trainer.train)
    trainer = object.__new__(trainers.Trainer)
    record_loop(trainer, tmp_path)
    assert trainer.train.__wrapped__.__func__ is trainers.Trainer.train
    assert trainer.train_step.__wrapped__.__func__ is trainers.Trainer.train_step
