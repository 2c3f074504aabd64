"""The share of lines that tests reached, by package: `python benchmarks/coverage_by_package.py .coverage [MORE ...]`."""

from __future__ import annotations

import sys
import tempfile
from collections import Counter
from pathlib import Path

import coverage

ROOT = Path(__file__).parents[1]


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        found = coverage.Coverage(data_file=str(Path(scratch) / "all"))
        found.combine(sys.argv[1:], keep=True)
        lines, reached = Counter[str](), Counter[str]()
        for file in sorted(path for top in ("traceanalyzer", "reports") for path in (ROOT / top).rglob("*.py")):
            _, statements, _, missing, _ = found.analysis2(str(file))
            parts = file.relative_to(ROOT).parent.parts
            package = "/".join(parts[:2]) if parts[0] == "traceanalyzer" else parts[0]
            lines[package] += len(statements)
            reached[package] += len(statements) - len(missing)
    for package in sorted(lines):
        print(f"| `{package}` | {lines[package]:,} | {reached[package] / lines[package]:.1%} |")
    print(f"| all | {lines.total():,} | {reached.total() / lines.total():.1%} |")


if __name__ == "__main__":
    main()
