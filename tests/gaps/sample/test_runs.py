"""Each rank of a real CPU pipeline alone: no rank makes up a side that its slowest stage does not lie on."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from traceanalyzer.analysis.measure import measure
from traceanalyzer.analysis.run import read
from traceanalyzer.cli import traceanalyzer

pytestmark = [pytest.mark.soak, pytest.mark.runs]


@pytest.mark.parametrize("fault", [None, "slow_stage:stage=1,factor=1.5"])
def test_no_rank_of_a_cpu_run_names_a_side(fault: str | None, tmp_path: Path) -> None:
    arguments = [
        "run",
        "pipeline",
        "--out",
        str(tmp_path / "run"),
        "--ranks",
        "4",
        "--steps",
        "2",
        "--compute",
        "paced",
    ]
    result = CliRunner().invoke(traceanalyzer, [*arguments, *(["--fault", fault] if fault else [])])
    assert result.exit_code == 0, result.output
    for rank in range(4):
        own = measure(read(tmp_path / "run", ranks=[rank])).captured.ranks[0]
        assert own.pace_ms is not None
        assert own.side in (None, "this")
        assert own.side is None or own.pace_ms <= 1.02 * (own.own_ms or 0)
        assert own.side == "this" or "CPU" in str(own.side_reason)
