"""Timelines: size, time and memory of `perfetto` against reading: `PYTHONPATH=tests/support python benchmarks/cost/timelines.py TRACES... [--check]`.

`--check` reads every timeline back in both formats and holds its sums against the tables. `--planted RANKS MB` makes a capture of
so many ranks with a planted trace of about so many megabytes of JSON each, by repeating the steps of one job, and writes its
timeline from the capture and from a kept result, each in a process of its own whose peak memory is printed.
"""

from __future__ import annotations

import argparse
import gzip
import json
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from planted import Faults, Job, plant
from timeline_reader import read_timeline
from timeline_sums import check_timeline, same

from traceanalyzer.analysis.run import read
from traceanalyzer.errors import TraceAnalyzerError
from traceanalyzer.perfetto.export import write_timeline
from traceanalyzer.perfetto.source import measured_source
from traceanalyzer.perfetto.window import Choice
from traceanalyzer.schema import result_tables

COMMAND = """
import resource, sys, time
from traceanalyzer.cli import main
start = time.perf_counter()
status = main(sys.argv[1:])
print(status, round(time.perf_counter() - start, 1), round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3), file=sys.stderr)
"""


def jobs(path: Path) -> list[Path]:
    """What can be read below a path: itself, or what is in it."""
    try:
        read(path)
    except TraceAnalyzerError:
        return [found for each in sorted(path.iterdir()) for found in jobs(each)] if path.is_dir() else []
    return [path]


def write_and_check(path: Path, folder: Path, *, check: bool) -> None:

    start = time.perf_counter()
    run = read(path)
    reading = time.perf_counter() - start
    source = measured_source(run, folder / "kept")
    tables = {name: source.whole(name) for name in result_tables()}
    found = []
    for name in ("a.pftrace", "a.json"):
        start = time.perf_counter()
        written = write_timeline(source, Choice(), folder / name, cpu=True)
        seconds = time.perf_counter() - start
        said = f"{written.num_slices:,} slices, {written.num_bytes / 1e6:.1f} MB, {seconds / reading:.1f} × reading"
        if check:
            found.append(read_timeline(folder / name))
            check_timeline(found[-1], tables)
            said += ", sums equal"
        print(f"{path}: {name}: {said}", flush=True)
    if check and not same(*found):
        raise SystemExit(f"{path}: the formats differ")


def repeated(ranks: int, megabytes: float, folder: Path) -> Path:
    """A capture of planted ranks, each of so much JSON."""
    stages = min(ranks, 8)
    job = Job(pp=stages, dp=ranks // stages, num_microbatches=16, num_steps=3, kernels_per_action=20)
    traces = plant(job, Faults(slow_compute={1: 1.2}), folder / "small").traces
    files = sorted(traces.iterdir())
    first, last, length = 1e30, 0.0, 0
    for file in files:
        document = json.loads(gzip.decompress(file.read_bytes()))
        timed = [event for event in document["traceEvents"] if event["ph"] == "X"]
        first = min(first, *(event["ts"] for event in timed))
        last = max(last, *(event["ts"] + event["dur"] for event in timed))
        length += len(json.dumps(document))
    times, size = max(1, round(megabytes * 1e6 * len(files) / length)), 0
    for file in files:
        size += write_again(file, json.loads(gzip.decompress(file.read_bytes())), times, last - first)
    print(f"{ranks} ranks, {3 * times} steps, {size / 1e6:,.0f} MB of JSON", flush=True)
    command = [sys.executable, "-m", "traceanalyzer", "ingest", str(traces), "--out", str(folder / "capture")]
    subprocess.run(command, check=True, capture_output=True)
    return folder / "capture"


def write_again(file: Path, document: dict[str, Any], times: int, period: float) -> int:
    """A trace with its events `times` over, each time later and with numbers of their own. Returns its bytes of JSON."""
    again = [later(event, k, period) for k in range(times) for event in document["traceEvents"] if event["ph"] != "M"]
    named = [event for event in document["traceEvents"] if event["ph"] == "M"]
    text = json.dumps({**document, "traceEvents": named + again}).encode()
    file.write_bytes(gzip.compress(text, 1))
    return len(text)


def later(event: dict[str, Any], k: int, period: float) -> dict[str, Any]:
    args = dict(event.get("args", {}))
    for name in ("correlation", "External id", "Seq"):
        if isinstance(args.get(name), int):
            args[name] += k * 50_000_000
    step = re.fullmatch(r"ProfilerStep#(\d+)", event["name"])
    name = f"ProfilerStep#{int(step[1]) + 3 * k}" if step else event["name"]
    number = {"id": event["id"] + k * 50_000_000} if isinstance(event.get("id"), int) else {}
    return {**event, **number, "name": name, "ts": event["ts"] + k * period, "args": args}


def measured(*arguments: str) -> None:
    done = subprocess.run([sys.executable, "-c", COMMAND, *arguments], capture_output=True, text=True, check=True)
    status, seconds, peak = done.stderr.splitlines()[-1].split()
    print(
        json.dumps({"command": arguments[:2], "status": int(status), "seconds": float(seconds), "peak MB": int(peak)}),
        flush=True,
    )
    print(done.stdout.splitlines()[-1] if status == "0" else done.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("traces", nargs="*", type=Path)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--planted", nargs=2, type=float, metavar=("RANKS", "MB"))
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for path in (found for each in asked.traces for found in jobs(each)):
            write_and_check(path, folder, check=asked.check)
        if asked.planted:
            capture = str(repeated(int(asked.planted[0]), asked.planted[1], folder))
            result = str(folder / "result")
            measured("analyze", capture, "--out", result)
            measured("perfetto", capture, "-o", str(folder / "capture.pftrace"))
            measured("perfetto", result, "-o", str(folder / "result.pftrace"))
            measured("perfetto", result, "--traces", capture, "--cpu", "-o", str(folder / "cpu.pftrace"))
            measured("perfetto", result, "-o", str(folder / "result.json.gz"))


if __name__ == "__main__":
    main()
