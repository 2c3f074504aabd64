"""Lightning's Trainer with the recorder: steps are optimizer steps, and an error keeps what was recorded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from launched.run_jobs import read_job, read_steps

torch = pytest.importorskip("torch", reason="the recorder needs torch")
lightning = pytest.importorskip("lightning.pytorch", reason="lightning is not installed")

from instrumented_runs.frameworks.description import job_of_model  # noqa: E402
from instrumented_runs.frameworks.lightning import RecorderCallback  # noqa: E402
from instrumented_runs.recorder.capture import Window  # noqa: E402


class Line(lightning.LightningModule):
    """A line fitted to nothing; fails at the batch `last`."""

    def __init__(self, last: int | None = None) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(4, 1)
        self.last = last

    def training_step(self, batch: Any, index: int) -> Any:
        if index == self.last:
            raise ZeroDivisionError
        return self.layer(batch).square().mean()

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def fit(folder: Path, model: Line, **options: Any) -> None:
    callback = RecorderCallback(folder, job_of_model(dtype="float32"), window=Window(wait=0, warmup=1, active=2))
    lightning.Trainer(
        max_epochs=1, accelerator="cpu", devices=1, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, callbacks=[callback], **options,
    ).fit(model, torch.utils.data.DataLoader(torch.ones(12, 4), batch_size=1))  # fmt: skip


@pytest.mark.runs
def test_accumulated_batches_make_one_step(tmp_path: Path) -> None:
    fit(tmp_path, Line(), accumulate_grad_batches=3)
    assert (read_job(tmp_path).status, read_job(tmp_path).profiled_steps) == ("completed", (1, 2))
    assert len(read_steps(tmp_path, 0)) == 4


@pytest.mark.runs
def test_an_error_in_training_keeps_the_trace(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        fit(tmp_path, Line(last=2))
    assert read_job(tmp_path).status == "started"
    assert len(read_steps(tmp_path, 0)) == 2
    assert (tmp_path / "traces/rank00000.json.gz").exists()
