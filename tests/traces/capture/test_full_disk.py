"""An ingest whose disk is full: status 4, one error, nothing partial, and it resumes."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest
from catalogue.base import events, text, trace

from traceanalyzer.traces import read_traces
from traceanalyzer.traces.capture.ingest import ingest

LIMITED = """
import resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # a write beyond the limit then fails as on a full disk
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), resource.RLIM_INFINITY))
from traceanalyzer.cli import main
sys.exit(main(sys.argv[2:]))
"""


def limited_ingest(num_bytes: int, folder: Path, capture: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", LIMITED, str(num_bytes), "ingest", str(folder), "--out", str(capture), "--workers", "1"],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONWARNINGS": "ignore"},
    )


@pytest.mark.skipif(not hasattr(resource, "RLIMIT_FSIZE"), reason="this system limits no file sizes")
def test_a_part_that_cannot_be_written_whole_leaves_nothing_partial(tmp_path: Path) -> None:
    folder, capture = tmp_path / "traces", tmp_path / "capture"
    folder.mkdir()
    for rank, copies in ((0, 1), (1, 400)):
        document = trace(rank, 2)
        document["traceEvents"] = [
            event | {"ts": event["ts"] + 10_000 * copy} for copy in range(copies) for event in events(rank)
        ]
        (folder / f"rank{rank}.json").write_text(text(document))
    result = limited_ingest(60_000, folder, capture)
    assert result.returncode == 4
    told = [line for line in result.stderr.strip().splitlines() if not line.startswith("read ")]  # but for progress
    assert len(told) == 2
    assert "File too large" in result.stderr
    kept = json.loads((capture / "manifest.json").read_text()) if (capture / "manifest.json").exists() else {}
    parts = {p["path"] for s in kept.get("sources", []) for d in s["documents"] for p in d["parts"]}
    assert {str(p.relative_to(capture)) for p in capture.rglob("*.parquet")} == parts
    assert parts  # rank 0 was finished before
    ingest([folder], capture)
    assert read_traces(capture).events.equals(read_traces(folder).events)
