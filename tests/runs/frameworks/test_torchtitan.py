"""torchtitan's trainer has the loop that `record_loop` takes; that loop runs on CPU, recorded."""

from __future__ import annotations

import inspect
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import launched
import pytest
from launched.run_jobs import read_job, read_steps

from traceanalyzer.analysis.assemble import analyze, read

pytest.importorskip("torch", reason="the recorder needs torch")
if find_spec("torchtitan") is None or find_spec("triton") is None:
    pytest.skip("torchtitan and the package triton that it imports are not installed", allow_module_level=True)

from instrumented_runs.frameworks.loops import record_loop


def test_its_loop_calls_the_step_through_the_trainer(tmp_path: Path) -> None:
    trainers = pytest.importorskip("torchtitan.trainer")
    assert "self.train_step(" in inspect.getsource(trainers.Trainer.train)
    trainer = object.__new__(trainers.Trainer)
    record_loop(trainer, tmp_path)
    assert trainer.train.__wrapped__.__func__ is trainers.Trainer.train
    assert trainer.train_step.__wrapped__.__func__ is trainers.Trainer.train_step


@pytest.mark.runs
def test_its_own_loop_is_recorded(tmp_path: Path) -> None:
    """In a process of its own: the stand-in for a device changes torch."""
    script = Path(launched.__path__[0]) / "torchtitan_on_cpu.py"
    root = Path(__file__).parents[3]
    done = subprocess.run(
        [sys.executable, script, tmp_path],
        env={**os.environ, "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert read_job(tmp_path / "run").profiled_steps == (2, 3, 4)
    assert [record.step for record in read_steps(tmp_path / "run", 0)] == list(range(6))
    review = analyze(read(tmp_path / "run")).review
    assert review.step.duration_ms.num_steps == 3
    assert {owner.owner for owner in review.accounting.owners} >= {"compute"}
