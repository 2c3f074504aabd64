"""Reading against other readers in processor seconds, in turn: `python benchmarks/cost/readers.py TRACE --peers PYTHON`.

Processor seconds (user and system, all threads) from after the imports to the end of reading, each reader in a process of
its own, so that a busy machine changes them less than wall time. `ours` gives columns, checked, hashed and labelled; simdjson and
msgspec give a parsed document; HTA its frame. Ratios are pair by pair: theirs over ours. A reader that fails is left out. `--peers` names a Python with pysimdjson, msgspec and
HolisticTraceAnalysis, `--insight` one with traceinsight, whose module has the same name.
"""

from __future__ import annotations

import argparse
import gzip
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path

import msgspec

_ENCODER = msgspec.json.Encoder(decimal_format="number")
MEASURE = """
import json, resource, sys
path = sys.argv[1]
{setup}
def spent():
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime
start = spent()
{read}
print(json.dumps([spent() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3]))
"""
OPEN = "import gzip\nbytes_of = lambda: (gzip.open if path.endswith('.gz') else open)(path, 'rb').read()\n"
READERS = {
    "ours": ("from traceanalyzer.traces import prepare, read_traces\nprepare()", "result = read_traces(path)"),
    "ours, nothing prepared": ("from traceanalyzer.traces import read_traces", "result = read_traces(path)"),
    "simdjson": (OPEN + "import simdjson\nparser = simdjson.Parser()", "result = parser.parse(bytes_of())"),
    "msgspec": (OPEN + "import msgspec", "result = msgspec.json.decode(bytes_of())"),
    "HTA": (
        "import logging, os\nlogging.disable(50)\nfrom hta.trace_analysis import TraceAnalysis",
        "TraceAnalysis(trace_files={0: path}, trace_dir=os.path.dirname(path))",
    ),
}
READERS["traceinsight"] = READERS["HTA"]


def spent(python: str, reader: tuple[str, str], path: Path) -> tuple[float, float] | None:
    """Processor seconds and peak MB; None if it fails."""
    code = MEASURE.format(setup=reader[0], read=reader[1])
    done = subprocess.run([python, "-c", code, str(path)], capture_output=True, text=True, check=False)
    return tuple(json.loads(done.stdout.splitlines()[-1])) if done.returncode == 0 else None


def enlarged(trace: Path, megabytes: float, folder: Path) -> Path:
    """The trace repeated at later times until it is as large; times keep their digits, which sums of doubles would not."""
    document = json.loads(
        (gzip.open if trace.suffix == ".gz" else open)(trace, "rb").read().decode("utf-8", "replace"),
        parse_float=Decimal,
    )
    events = document["traceEvents"]
    times = [event["ts"] for event in events if isinstance(event.get("ts"), int | Decimal)]
    span = max(times) - min(times) + 1
    size = len(_ENCODER.encode(events))
    num = max(1, round(megabytes * 1e6 / size))
    document["traceEvents"] = [
        {**event, "ts": event["ts"] + at * span} if "ts" in event else event for at in range(num) for event in events
    ]
    path = folder / f"{trace.parent.name}_{megabytes:g}.json"
    path.write_bytes(_ENCODER.encode(document))
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("traces", nargs="+", type=Path)
    parser.add_argument("--peers", default=sys.executable)
    parser.add_argument("--insight")
    parser.add_argument("--megabytes", nargs="+", type=float, default=[10, 40])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--readers", nargs="+", default=list(READERS), choices=list(READERS))
    asked = parser.parse_args()
    pythons = {name: sys.executable if name.startswith("ours") else asked.peers for name in asked.readers}
    if pythons.pop("traceinsight", None) and asked.insight:
        pythons["traceinsight"] = asked.insight
    with tempfile.TemporaryDirectory() as folder:
        for trace in asked.traces:
            for megabytes in asked.megabytes:
                plain = enlarged(trace, megabytes, Path(folder))
                packed = Path(f"{plain}.gz")
                packed.write_bytes(gzip.compress(plain.read_bytes(), 6))
                for path in (plain, packed):
                    report(path, plain.stat().st_size / 1e6, pythons, asked.rounds)


def report(path: Path, megabytes: float, pythons: Mapping[str, str], rounds: int) -> None:
    """Print what every reader took, median of the rounds, and its ratio to ours."""
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in pythons}
    for _ in range(rounds):
        for name, python in pythons.items():
            measured = spent(python, READERS[name], path)
            if measured is not None:
                found[name].append(measured)
    for name, values in found.items():
        if len(values) < rounds:
            continue
        seconds = statistics.median(value[0] for value in values)
        ratio = statistics.median(theirs[0] / ours[0] for theirs, ours in zip(values, found["ours"], strict=True))
        print(
            f"{path.name:28} {name:24} {seconds:7.3f} s  {megabytes / seconds:6.1f} MB/s  "
            f"{statistics.median(v[1] for v in values):6.0f} MB  {ratio:.2f} x ours",
            flush=True,
        )


if __name__ == "__main__":
    main()
