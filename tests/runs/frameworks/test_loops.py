"""The recorder around loops of an object and of a module, and a description from a model's settings."""

from __future__ import annotations

import types
from pathlib import Path

import pytest
from launched.run_jobs import read_job, read_steps

torch = pytest.importorskip("torch", reason="the recorder needs torch")

from instrumented_runs.frameworks.callback import Recording  # noqa: E402
from instrumented_runs.frameworks.description import job_of_model  # noqa: E402
from instrumented_runs.frameworks.loops import record_loop  # noqa: E402
from instrumented_runs.recorder.capture import Window  # noqa: E402
from traceanalyzer.errors import UsageError  # noqa: E402

WINDOW = Window(wait=1, warmup=1, active=2)
MODULE = """
def train_step(data, scale):
    return float((data @ data).sum()) * scale

def train(data, num_steps):
    return [train_step(data, scale=2) for _ in range(num_steps)]
"""


class TitanLike:
    """A trainer as torchtitan builds it: `train` calls `self.train_step`."""

    def __init__(self) -> None:
        self.losses: list[float] = []

    def train_step(self, data: object) -> None:
        self.losses.append(float((data @ data).sum()))

    def train(self, num_steps: int) -> int:
        for _ in range(num_steps):
            self.train_step(torch.ones(4, 4))
        return num_steps


@pytest.mark.runs
def test_an_object_is_recorded_and_does_what_it_did(tmp_path: Path) -> None:
    trainer = TitanLike()
    record_loop(trainer, tmp_path, window=WINDOW)
    trainer.train_step(torch.ones(2, 2))  # outside the loop: no step
    assert trainer.train(6) == 6
    assert len(trainer.losses) == 7
    assert read_job(tmp_path).profiled_steps == (2, 3)
    assert [record.step for record in read_steps(tmp_path, 0)] == list(range(6))


@pytest.mark.runs
def test_a_modules_functions_are_recorded(tmp_path: Path) -> None:
    module = types.ModuleType("training")
    exec(MODULE, module.__dict__)  # noqa: S102 - as Megatron-LM's module looks up its own functions
    job = job_of_model(None, sequences_per_step=4, sequence_length=8)
    record_loop(module, tmp_path, lambda: job, window=WINDOW)
    assert module.train(torch.ones(2, 2), 5) == [16.0] * 5
    assert (read_job(tmp_path).tokens_per_step, read_job(tmp_path).profiled_steps) == (32, (2, 3))


@pytest.mark.runs
def test_a_loop_that_fails_keeps_what_was_recorded(tmp_path: Path) -> None:
    trainer = TitanLike()
    record_loop(trainer, tmp_path, window=WINDOW)
    trainer.losses = None
    with pytest.raises(AttributeError):
        trainer.train(6)
    assert read_job(tmp_path).status == "started"


def test_an_owner_without_such_a_loop_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="has no function fit"):
        record_loop(TitanLike(), tmp_path, loop="fit")


def test_a_description_has_the_model_or_says_nothing_of_it() -> None:
    config = {
        "model_type": "llama", "num_hidden_layers": 3, "hidden_size": 32, "num_attention_heads": 4,
        "num_key_value_heads": 2, "intermediate_size": 48, "vocab_size": 100,
    }  # fmt: skip
    job = job_of_model(config, dtype="bf16", sequences_per_step=6, sequence_length=16, recompute="full")
    assert (job.model.num_layers, job.tokens_per_step, job.dtype, job.recompute) == (3, 96, "bf16", "full")
    assert job_of_model({"model_type": "no such family"}).model.num_layers == 0
    assert job_of_model().tokens_per_step == 0


@pytest.mark.runs
def test_a_recording_ends_once(tmp_path: Path) -> None:
    recording = Recording(tmp_path, {"window": WINDOW})
    recording.step()  # before it began: nothing
    recording.begin(job_of_model())
    for _ in range(3):
        recording.step()
    recording.abandon()
    recording.end()
    assert read_job(tmp_path).status == "started"
    assert len(read_steps(tmp_path, 0)) == 3
    assert (tmp_path / "traces/rank00000.json.gz").exists()
