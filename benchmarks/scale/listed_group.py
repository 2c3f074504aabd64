"""What a captured rank costs whose job has a group of many ranks: `python benchmarks/scale/listed_group.py [SIZE ...]`.

A planted job of four ranks is analysed as it is and with every list of all its ranks made one of SIZE, in the metadata and in the
arguments of calls (cut as torch cuts them), so that nothing but the size of a group differs. Prints processor seconds, the
largest table and its rows. Needs `PYTHONPATH=tests/support:.`.
"""

from __future__ import annotations

import gzip
import json
import sys
import tempfile
import time
from pathlib import Path

from planted import Faults, Job, plant

from traceanalyzer.analysis.assemble import analyze, read

_JOB = Job(pp=2, dp=2, num_microbatches=4, num_steps=2)


def main() -> None:
    """Analyse the job with each size, after one to warm up."""
    sizes = [int(text) for text in sys.argv[1:]] or [4, 2_000, 20_000, 200_000]
    with tempfile.TemporaryDirectory() as folder:
        traces = plant(_JOB, Faults(), Path(folder)).traces
        analyze(read(traces))
        for size in sizes:
            for path in traces.iterdir():
                enlarge(path, size)
            report(traces, size)


def report(traces: Path, size: int) -> None:
    """Print one row."""
    start = time.process_time()
    tables = analyze(read(traces)).tables
    spent = time.process_time() - start
    name, largest = max(tables.items(), key=lambda item: item[1].height)
    print(f"group of {size:>7,}: {spent:6.2f} s, largest table {name} with {largest.height:,} rows", flush=True)


def enlarge(path: Path, size: int) -> None:
    """Make the group of all ranks one of `size`."""
    packed = path.suffix == ".gz"
    document = json.loads((gzip.decompress(path.read_bytes()) if packed else path.read_bytes()).decode())
    info = document["distributedInfo"]
    info["world_size"] = size
    for group in info["pg_config"]:
        if group["pg_desc"] == "default_pg":
            group |= {"pg_size": size, "ranks": list(range(size))}
    for event in document["traceEvents"]:
        arguments = event.get("args", {})
        if arguments.get("Process Group Description") == "default_pg":
            shown = f"[{', '.join(map(str, range(29)))}, ..., {size - 1}]"
            arguments |= {"Group size": size, "Process Group Ranks": shown}
    text = json.dumps(document).encode()
    path.write_bytes(gzip.compress(text, 1) if packed else text)


if __name__ == "__main__":
    main()
