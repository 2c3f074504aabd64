"""Hugging Face's Trainer with the recorder: its own steps, its model, and an analysis of what it wrote."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from launched.run_jobs import read_job, read_steps

torch = pytest.importorskip("torch", reason="the recorder needs torch")
transformers = pytest.importorskip("transformers", reason="transformers is not installed")
pytest.importorskip("accelerate", reason="Trainer needs accelerate")

from instrumented_runs.frameworks.huggingface import RecorderCallback  # noqa: E402
from instrumented_runs.recorder.capture import Window  # noqa: E402
from traceanalyzer.analysis.assemble import analyze, read  # noqa: E402

LENGTH = 12


def trained(folder: Path, num_steps: int, **arguments: Any) -> None:
    """A tiny Llama on random tokens."""
    config = transformers.LlamaConfig(
        num_hidden_layers=2, hidden_size=16, num_attention_heads=2, num_key_value_heads=1, intermediate_size=24,
        vocab_size=64,
    )  # fmt: skip
    tokens = torch.randint(0, 64, (64, LENGTH))
    data = [{"input_ids": row, "labels": row} for row in tokens]
    settings = transformers.TrainingArguments(
        output_dir=str(folder / "out"), max_steps=num_steps, per_device_train_batch_size=3, use_cpu=True,
        report_to=[], save_strategy="no", disable_tqdm=True, **arguments,
    )  # fmt: skip
    callback = RecorderCallback(folder / "run", sequence_length=LENGTH, window=Window(wait=1, warmup=1, active=3))
    transformers.Trainer(
        model=transformers.LlamaForCausalLM(config), args=settings, train_dataset=data, callbacks=[callback]
    ).train()


@pytest.mark.runs
def test_optimizer_steps_are_steps_and_the_model_is_described(tmp_path: Path) -> None:
    trained(tmp_path, 6, gradient_accumulation_steps=2)
    job = read_job(tmp_path / "run")
    assert (job.status, job.profiled_steps) == ("completed", (2, 3, 4))
    assert (job.model.num_layers, job.model.vocab_size) == (2, 64)
    assert (job.tokens_per_step, job.sequence_length, job.dtype) == (3 * 2 * LENGTH, LENGTH, "float32")
    assert [record.step for record in read_steps(tmp_path / "run", 0)] == list(range(6))
    analysis = analyze(read(tmp_path / "run"))
    assert set(analysis.tables["steps"]["step"]) == {2, 3, 4}
    assert analysis.review.mfu.flops_per_step is not None
