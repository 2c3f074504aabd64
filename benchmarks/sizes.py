"""Lengths of files and functions, product and tests: `python benchmarks/sizes.py [ROOT]`."""

from __future__ import annotations

import ast
import sys
from collections.abc import Sequence
from pathlib import Path

PARTS = {"product": ("traceanalyzer", "reports", "instrumented_runs"), "tests": ("tests",)}
MOST_LINES, MOST_IN_FUNCTION = 350, 60


def quantile(values: Sequence[int], share: float) -> int:
    """The value below which `share` of them lie."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def main() -> None:
    """Tell."""
    root = Path(sys.argv[1] if len(sys.argv) > 1 else ".")
    for name, folders in PARTS.items():
        files = {file: file.read_text().splitlines() for folder in folders for file in (root / folder).rglob("*.py")}
        spans = {
            f"{file}:{node.lineno}": (node.end_lineno or 0) - node.lineno + 1
            for file, lines in files.items()
            for node in ast.walk(ast.parse("\n".join(lines)))
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        }
        lengths = {str(file): len(lines) for file, lines in files.items()}
        for what, sizes, limit in (("files", lengths, MOST_LINES), ("functions", spans, MOST_IN_FUNCTION)):
            found = list(sizes.values())
            sys.stdout.write(
                f"{name}: {len(found):,} {what}, {sum(found):,} lines; median {quantile(found, 0.5)}, "
                f"90% {quantile(found, 0.9)}, longest {max(found)}\n"
            )
            for place, lines in sizes.items():
                if lines > limit:
                    sys.stdout.write(f"    over {limit}: {place} {lines}\n")


if __name__ == "__main__":
    main()
