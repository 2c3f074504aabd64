"""A report is written whole or not at all."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from report_cases import expert_case, mfu_case, pipeline_case

from reports import render
from traceanalyzer.errors import OutputError

CASES = {"pipeline": pipeline_case, "experts": expert_case, "mfu": mfu_case}


def test_a_report_is_written_whole_and_only_for_its_owner(tmp_path: Path) -> None:
    target = tmp_path / "report.html"
    target.write_text("old")
    assert render(*mfu_case(), target) == target
    assert target.read_text(encoding="utf-8").endswith("</html>")
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


def test_a_report_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"missing/report\.html: cannot be written: No such file or directory"):
        render(mfu_case()[0], {}, tmp_path / "missing" / "report.html")
    with pytest.raises(OutputError, match="not a regular file"):
        render(mfu_case()[0], {}, tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no /dev/full")
def test_a_device_that_takes_nothing_is_an_error() -> None:
    with pytest.raises(OutputError, match="No space left"):
        render(mfu_case()[0], {}, Path("/dev/full"))


def test_a_failed_write_keeps_the_old_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "report.html"
    target.write_text("old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match="No space left on device"):
        render(mfu_case()[0], {}, target)
    assert target.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]
