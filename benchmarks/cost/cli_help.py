"""What `traceanalyzer --help` costs against importing click alone: whole processes, in turn, ratio pair by pair.

python benchmarks/cost/cli_help.py [PAIRS]
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

HELP = [sys.executable, "-m", "traceanalyzer", "--help"]
CLICK = [sys.executable, "-c", "import click"]


def seconds(command: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def main(pairs: int) -> None:
    seconds(HELP), seconds(CLICK)  # once for the page cache
    measured = [(seconds(HELP), seconds(CLICK)) for _ in range(pairs)]
    ratios = sorted(a / b for a, b in measured)
    print(f"help {statistics.median(a for a, _ in measured) * 1e3:.0f} ms,", end=" ")
    print(f"import click {statistics.median(b for _, b in measured) * 1e3:.0f} ms,", end=" ")
    print(f"ratio median {statistics.median(ratios):.2f} (min {ratios[0]:.2f}, max {ratios[-1]:.2f}, {pairs} pairs)")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 15)
