"""Ctrl-C while the command ingests: status 130, what was finished stays, and the next call goes on from there."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from catalogue.base import events, text, trace

from traceanalyzer.traces import read_traces


def finished_ranks(capture: Path) -> list[int]:
    """Ranks that the manifest lists."""
    try:
        manifest = json.loads((capture / "manifest.json").read_text())
    except (OSError, ValueError):
        return []
    parts = [part["path"] for source in manifest["sources"] for each in source["documents"] for part in each["parts"]]
    return sorted({int(path.split("rank=")[1].split("/")[0]) for path in parts})


@pytest.mark.wide
def test_an_interrupted_ingest_keeps_finished_ranks_and_goes_on(tmp_path: Path) -> None:
    folder, capture = tmp_path / "traces", tmp_path / "capture"
    folder.mkdir()
    (folder / "rank0.json").write_text(text(trace(0)))
    large = trace(1)
    large["traceEvents"] = [event | {"ts": event["ts"] + n} for n in range(8_000) for event in events(1)]
    (folder / "rank1.json").write_text(text(large))
    command = [sys.executable, "-m", "traceanalyzer", "ingest", str(folder), "--out", str(capture), "--workers", "1"]
    running = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    last = time.monotonic() + 60
    while not finished_ranks(capture) and running.poll() is None:
        assert time.monotonic() < last, "rank 0 was never finished"
        time.sleep(0.01)
    assert running.poll() is None, "rank 1 was read before the interrupt"
    running.send_signal(signal.SIGINT)
    _, told = running.communicate(timeout=60)
    assert running.returncode == 130
    assert "Traceback" not in told
    assert read_traces(capture).ranks["rank"].to_list() == [0]
    again = subprocess.run(command, capture_output=True, text=True, check=False)
    assert again.returncode == 0
    assert "MB" in again.stderr  # progress, although this is no terminal
    assert finished_ranks(capture) == [0, 1]
