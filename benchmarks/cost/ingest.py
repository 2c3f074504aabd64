"""Reading against other readers, pairwise in the same round: `python benchmarks/cost/ingest.py TRACE... --peers PYTHON`.

Every reader runs in its own process on the same plain JSON and prints decompressed MB/s and peak memory. Imports are
not counted, for us nor for others; `summarize, unprepared` counts the loading of compiled decoding where it happens. `PYTHON` is an
interpreter that has HolisticTraceAnalysis and pysimdjson; without it only `json` is compared. `--gigabytes N` adds a
trace of that size made by repeating the first one at later times.
"""

from __future__ import annotations

import argparse
import gzip
import json
import re
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

MEASURE = """
import json, os, resource, sys, time
path = sys.argv[1]
{setup}
start = time.perf_counter()
{read}
seconds = time.perf_counter() - start
print(json.dumps([os.path.getsize(path) / 1e6 / seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3]))
"""
OURS = {
    "read_traces": ("from traceanalyzer.traces import prepare, read_traces\nprepare()", "result = read_traces(path)"),
    "summarize": ("from traceanalyzer.traces import prepare, summarize\nprepare()", "result = summarize(path)"),
    "summarize, unprepared": ("from traceanalyzer.traces import summarize", "result = summarize(path)"),
    "ingest": (
        (
            "import tempfile\nfrom traceanalyzer.traces import prepare\nfrom traceanalyzer.traces.capture.ingest import ingest\n"
            "prepare()\nout = tempfile.TemporaryDirectory()"
        ),
        "result = ingest([path], out.name)",
    ),
}
PEERS = {
    "json.loads": ("", "result = json.loads(open(path, 'rb').read())"),
    "simdjson": ("import simdjson", "parser = simdjson.Parser()\nresult = parser.parse(open(path, 'rb').read())"),
    "simdjson, warm": (
        "import simdjson\nparser = simdjson.Parser()\ndata = open(path, 'rb').read()\nparser.parse(data)",
        "result = parser.parse(data)",
    ),
    "HTA": (
        "import logging\nlogging.disable(50)\nfrom hta.trace_analysis import TraceAnalysis",
        "TraceAnalysis(trace_files={0: path}, trace_dir=os.path.dirname(path))",
    ),
}
TOO_SLOW_BEYOND_MB = 500


def rate(python: str, reader: tuple[str, str], path: Path) -> tuple[float, float] | None:
    """MB/s and peak MB of one reader on one file; None if it fails."""
    code = MEASURE.format(setup=reader[0], read=reader[1])
    result = subprocess.run(
        [python, "-W", "ignore", "-c", code, str(path)], capture_output=True, text=True, check=False
    )
    if result.returncode:
        print(f"    failed: {result.stderr.strip().splitlines()[-1:]}")
        return None
    speed, peak = json.loads(result.stdout.strip().splitlines()[-1])
    return speed, peak


def compare(path: Path, peers: str | None, rounds: int) -> None:
    size = path.stat().st_size / 1e6
    print(f"{path.name}: {size:.1f} MB")
    readers = [(name, sys.executable, reader) for name, reader in OURS.items()]
    for name, reader in PEERS.items():
        if name == "json.loads" or peers is not None:
            readers.append((name, sys.executable if name == "json.loads" else str(peers), reader))
    speeds: dict[str, list[float]] = {}
    peaks: dict[str, float] = {}
    for _ in range(rounds):
        for name, python, reader in readers:
            if size > TOO_SLOW_BEYOND_MB and name in ("json.loads", "HTA", "read_traces"):
                continue
            found = rate(python, reader, path)
            if found is not None:
                speeds.setdefault(name, []).append(found[0])
                peaks[name] = max(peaks.get(name, 0), found[1])
    for name, found in speeds.items():
        line = f"  {name:<22} {statistics.median(found):8.1f} MB/s  peak {peaks[name]:7.0f} MB"
        if name not in OURS:
            ours = speeds["summarize"]
            ratios = [mine / theirs for mine, theirs in zip(ours, found, strict=True)]
            line += f"   summarize is {statistics.median(ratios):.2f}x ({min(ratios):.2f} to {max(ratios):.2f})"
        print(line)


def enlarged(source: Path, target: Path, num_bytes: int) -> Path:
    """`source` repeated at later times until it has `num_bytes`."""
    data = source.read_bytes()
    start = data.index(b"[", data.index(b'"traceEvents"')) + 1
    end = start - 1 + json.JSONDecoder().raw_decode(data[start - 1 :].decode("ascii"))[1] - 1
    body, times = data[start:end].rstrip(), re.compile(rb'("ts": ?)(\d+)')
    with target.open("wb") as file:
        file.write(data[:start])
        copy = 0
        while file.tell() < num_bytes:
            shift = copy * 10_000_000
            moved = times.sub(lambda m, s=shift: m[1] + str(int(m[2]) + s).encode(), body)
            file.write((b"," if copy else b"") + moved)
            copy += 1
        file.write(data[end:])
    return target


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("traces", nargs="+", type=Path)
    parser.add_argument("--peers", metavar="PYTHON")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--gigabytes", type=float, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        plain: list[Path] = []
        for trace in options.traces:
            data = trace.read_bytes()
            path = Path(folder) / trace.name.removesuffix(".gz")
            path.write_bytes(gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data)
            plain.append(path)
        for path in plain:
            compare(path, options.peers, options.rounds)
        if options.gigabytes:
            big = enlarged(plain[0], Path(folder) / "enlarged.json", int(options.gigabytes * 1e9))
            compare(big, options.peers, 1)


if __name__ == "__main__":
    main()
