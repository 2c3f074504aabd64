"""Megatron-Core's model and its own 1F1B schedule on two ranks, in a loop of the form of Megatron-LM's, recorded on CPU."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import launched
import polars as pl
import pytest
from launched.run_jobs import read_job, read_steps

from traceanalyzer.analysis.assemble import analyze, read

pytest.importorskip("torch", reason="the recorder needs torch")
if find_spec("megatron") is None:
    pytest.skip("megatron-core is not installed", allow_module_level=True)


@pytest.mark.runs
@pytest.mark.wide
def test_its_schedule_is_recorded_on_every_rank(tmp_path: Path) -> None:
    """In processes of their own: the stand-in for a device changes torch."""
    script = Path(launched.__path__[0]) / "megatron_on_cpu.py"
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", script]
    done = subprocess.run(
        [*command, tmp_path / "run"],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert read_job(tmp_path / "run").profiled_steps == (2, 3, 4)
    for rank in (0, 1):
        assert [record.step for record in read_steps(tmp_path / "run", rank)] == list(range(6))
    tables = analyze(read(tmp_path / "run")).tables
    assert set(tables["steps"]["rank"]) == {0, 1}
    counts = tables["actions"].group_by("rank", "step", "phase").len()
    assert counts.select("rank", "step", pl.col("phase").cast(pl.String), "len").sort("rank", "step", "phase").rows() == [
        (rank, step, phase, 4) for rank in (0, 1) for step in (2, 3, 4) for phase in "BF"
    ]  # fmt: skip
