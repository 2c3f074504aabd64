"""Long checks of ingest: killed at random moments, and traces of up to two gigabytes within their memory bound."""

from __future__ import annotations

import os
import random
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from catalogue.base import events, text, trace, write

from traceanalyzer.errors import InputError
from traceanalyzer.traces import read_traces
from traceanalyzer.traces.capture.ingest import ingest

pytestmark = pytest.mark.soak

INGEST = [sys.executable, "-m", "traceanalyzer", "ingest"]
MOST_BYTES = 1_500_000_000
BASE_BYTES = 300 << 20
PEAK = """
import resource, sys
from traceanalyzer.cli import main
status = main(sys.argv[1:])
print("peak", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
sys.exit(status)
"""


def readable(capture: Path) -> bool:
    """Whether a capture reads, or says that it holds nothing yet."""
    try:
        read_traces(capture)
    except InputError as error:
        return re.search("no traces yet|no such file|holds no trace files", error.message) is not None
    return True


def test_fifty_kills_leave_a_readable_and_resumable_capture(tmp_path: Path) -> None:
    folder, capture = tmp_path / "traces", tmp_path / "capture"
    for rank in range(12):
        document = trace(rank, 12)
        document["traceEvents"] = [
            event | {"ts": event["ts"] + 10_000 * copy} for copy in range(60) for event in events(rank)
        ]
        write(folder, text(document), f"rank{rank}.json")
    rng = random.Random(4)  # noqa: S311 - moments, no secret
    for attempt in range(50):
        process = subprocess.Popen(
            [*INGEST, str(folder), "--out", str(capture), "--workers", "2"], stdout=subprocess.DEVNULL
        )
        time.sleep(rng.uniform(0.2, 1.6))
        process.kill()
        process.wait()
        assert readable(capture), attempt
        if attempt % 10 == 9:  # begin again, so that kills fall on every phase
            shutil.rmtree(capture)
    ingest([folder], capture)
    assert read_traces(capture).events.equals(read_traces(folder).events)
    assert not list(capture.glob(".*.tmp"))


@pytest.mark.parametrize("num_bytes", [40_000_000, 2_000_000_000])
def test_memory_bound(num_bytes: int, tmp_path: Path) -> None:
    """300 MiB and half of the text, and never more than 1.5 GB: the whole process of the command."""
    path = tmp_path / "big.json"
    body = text(trace())
    head, rest = body.split('"traceEvents": [\n', 1)
    block = ",\n".join(rest.split("\n],", 1)[0] for _ in range(500)).encode()
    with path.open("wb") as file:
        file.write(head.encode() + b'"traceEvents": [\n')
        for number in range(num_bytes // len(block) + 1):
            file.write((b",\n" if number else b"") + block)
        file.write(b'\n], "traceName": "big"}')
    result = subprocess.run(
        [sys.executable, "-c", PEAK, "ingest", str(path), "--out", str(tmp_path / "c")],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"PYTHONWARNINGS": "ignore"},
    )
    path.unlink()
    peak = int(result.stdout.split("peak")[1])
    assert peak < min(MOST_BYTES, BASE_BYTES + num_bytes // 2)
    assert "seen" in result.stdout
