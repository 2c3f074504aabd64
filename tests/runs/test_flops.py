"""FLOPs of the shapes that real runs recorded against those of the job they declared."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="reference jobs need torch")

from launched.run_jobs import run_job  # noqa: E402

from instrumented_runs.settings import DenseSettings, ExpertSettings, PipelineSettings, RunSettings  # noqa: E402
from traceanalyzer.analysis.assemble import analyze, read  # noqa: E402
from traceanalyzer.gaps.efficiency.operators import recorded_flops, recorded_operators  # noqa: E402
from traceanalyzer.tables import build_tables  # noqa: E402
from traceanalyzer.theory.model.flops import Convention, flops_per_token  # noqa: E402

SMALL = {"folder": "", "num_steps": 2, "num_unprofiled_steps": 1, "compute_mode": "real"}
JOBS: dict[str, RunSettings] = {
    "dense": DenseSettings(**SMALL, num_layers=2, hidden_size=32, num_heads=2, sequence_length=16, gemm_side=64),  # type: ignore[arg-type]
    "pipeline": PipelineSettings(**SMALL, num_ranks=2, num_chunks=1, num_layers=4, num_microbatches=4, hidden_size=32),  # type: ignore[arg-type]
    "experts": ExpertSettings(**SMALL, num_ranks=2, routing="zipf", hidden_size=32),  # type: ignore[arg-type]
}


@pytest.mark.sweep(1)
@pytest.mark.runs
@pytest.mark.parametrize("kind", JOBS)
def test_recorded_shapes_add_up_to_the_declared_job(kind: str, tmp_path: Path) -> None:
    values = {name: getattr(JOBS[kind], name) for name in JOBS[kind].__dataclass_fields__}
    job = run_job(kind, type(JOBS[kind])(**values | {"folder": str(tmp_path)}))
    run = read(tmp_path)
    tables = build_tables(run.traces.events, run.traces.ranks, run.job, run.routing_records)
    recorded = recorded_flops(recorded_operators(run.traces.events, tables), tables.steps, job.layout.world_size)
    assert job.tokens_per_step is not None
    assert job.sequence_length is not None
    counted = flops_per_token(job.model, job.sequence_length, Convention.FULL_ATTENTION).total * job.tokens_per_step
    assert recorded == pytest.approx(counted, rel=0.01)
    (finding,) = (each for each in analyze(run).review.findings if each.id == "flops.as_declared")
    assert finding.passed
    assert re.search(r"\b0\.\d\d[\s\u202f]?% apart", finding.evidence)
