"""Mutation testing of `measurements/` and `theory/`: how many small faults the tests that reach them notice.

    coverage run --source=traceanalyzer -m pytest -p coverage_contexts tests/theory tests/measurements …
    python benchmarks/mutation.py .coverage --count 60 --seed 1

A fault is one changed operator, comparison or constant in a copy of the package. The tests that reached its line (any line of its
file, where the line only runs on import) run against the copy and stop at the first failure. The score is the share of faults that
were noticed; a line that no test reached is a fault that was missed.
"""

from __future__ import annotations

import argparse
import ast
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import coverage

ROOT = Path(__file__).parents[1]
PARTS = ("measurements", "theory")
_FIRST, _MOST = 20, 120
"""Tests that run at once, one of every test function before the second of any; then the others, up to so many."""
_SWAPS: dict[type[ast.AST], type[ast.AST]] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult, ast.Mod: ast.Mult,
    ast.Lt: ast.GtE, ast.GtE: ast.Lt, ast.Gt: ast.LtE, ast.LtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.And: ast.Or, ast.Or: ast.And, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd,
}  # fmt: skip


def places(tree: ast.AST) -> list[ast.AST]:
    """What can be changed: not annotations, whose operators mean types."""
    typed = {id(inner) for node in ast.walk(tree) for note in _annotations(node) for inner in ast.walk(note)}
    found = [node for node in ast.walk(tree) if id(node) not in typed]
    return [node for node in found if _can_change(node)]


def _annotations(node: ast.AST) -> list[ast.AST]:
    notes = [getattr(node, name, None) for name in ("annotation", "returns")]
    return [note for note in notes if note is not None]


def _can_change(node: ast.AST) -> bool:
    match node:
        case ast.BinOp(op=op) | ast.BoolOp(op=op):
            return type(op) in _SWAPS
        case ast.Compare(ops=[op]):
            return type(op) in _SWAPS
        case ast.Constant(value=bool()):
            return False
        case ast.Constant(value=int() | float()):
            return True
    return False


def change(node: ast.AST) -> str:
    """Change a node in place; what was done."""
    match node:
        case ast.BinOp(op=op) | ast.BoolOp(op=op):
            node.op = _SWAPS[type(op)]()  # type: ignore[assignment]
            return f"line {node.lineno}: {type(op).__name__} became {type(node.op).__name__}"
        case ast.Compare(ops=[op]):
            node.ops = [_SWAPS[type(op)]()]  # type: ignore[list-item]
            return f"line {node.lineno}: {type(op).__name__} became {type(node.ops[0]).__name__}"
        case ast.Constant(value=int() | float() as value):
            node.value = value + 1 if isinstance(value, int) or value == 0 else value * 2  # 1e9 + 1 would be 1e9
            return f"line {node.lineno}: {value} became {node.value}"
    raise TypeError(node)


def tests_reaching(data: coverage.CoverageData, file: Path, node: ast.AST) -> list[str]:
    """Tests that ran a line of the statement, one of every test function first."""
    by_line = data.contexts_by_lineno(str(file))
    lines = range(node.lineno, (node.end_lineno or node.lineno) + 1)  # type: ignore[attr-defined]
    found = {test for line in lines for test in by_line.get(line, ()) if test}
    if not found and any(line in by_line for line in lines):
        found = {test for tests in by_line.values() for test in tests if test}
    turn: Counter[str] = Counter()
    order = {}
    for test in sorted(found):
        function = test.partition("[")[0]
        turn[function] += 1
        order[test] = turn[function]
    return sorted(found, key=lambda test: (order[test], test))[:_MOST]


def fails(copy: Path, tests: list[str]) -> bool:
    """Whether a test fails on the copy; one that never ends counts as failing."""
    if not tests:
        return False
    try:
        done = subprocess.run(**_pytest(copy, [*tests, "-x"]), check=False, timeout=900)
    except subprocess.TimeoutExpired:
        return True
    return done.returncode in (1, 2)  # failed, or could not be collected


def failing_without_fault(copy: Path, tests: list[str]) -> set[str]:
    """Tests that fail on the unchanged copy: they would seem to notice every fault."""
    done = subprocess.run(**_pytest(copy, tests), check=False) if tests else None
    lines = done.stdout.splitlines() if done else []
    return {line.split()[1] for line in lines if line.startswith(("FAILED ", "ERROR "))}


def _pytest(copy: Path, words: list[str]) -> dict[str, Any]:
    command = [sys.executable, "-m", "pytest", *words, "-q", "-p", "no:randomly", "-p", "no:cacheprovider"]
    environment = {**os.environ, "PYTHONPATH": str(copy), "POLARS_MAX_THREADS": "1"}
    return {"args": command, "cwd": copy, "env": environment, "capture_output": True, "text": True}


@dataclass(frozen=True)
class Fault:
    """A place that can be changed: the `number`-th of its file."""

    file: Path
    number: int

    def tree_and_place(self) -> tuple[ast.AST, ast.AST]:
        """The file as a tree, and the node in it."""
        tree = ast.parse(self.file.read_text())
        return tree, places(tree)[self.number]


def judged(copy: Path, fault: Fault, tests: list[str]) -> tuple[bool, str]:
    """Put a fault into the copy, and out again; whether it was noticed, and what it is."""
    target = copy / fault.file.relative_to(ROOT)
    tree, place = fault.tree_and_place()
    what = f"{fault.file.relative_to(ROOT)} {change(place)}"
    target.write_text(ast.unparse(tree))
    found = fails(copy, tests[:_FIRST]) or fails(copy, tests[_FIRST:])
    target.write_text(fault.file.read_text())
    return found, what


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("reached", type=Path, help="coverage's data, with the names of tests as contexts")
    parser.add_argument("--count", type=int, default=60)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    data = coverage.CoverageData(str(asked.reached))
    data.read()
    rng = random.Random(asked.seed)  # noqa: S311 - which faults, no secret
    files = [file for part in PARTS for file in sorted((ROOT / "traceanalyzer" / part).rglob("*.py"))]
    everything = [Fault(file, n) for file in files for n in range(len(places(ast.parse(file.read_text()))))]
    chosen = rng.sample(everything, min(asked.count, len(everything)))
    tests = {fault: tests_reaching(data, fault.file, fault.tree_and_place()[1]) for fault in chosen}
    noticed = 0
    with tempfile.TemporaryDirectory() as scratch:
        copy = Path(scratch)
        for name in ("traceanalyzer", "reports", "instrumented_runs", "tests", "docs"):
            shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        for name in ("pyproject.toml", "hatch_build.py", "mkdocs.yml"):
            shutil.copy(ROOT / name, copy / name)
        failing = failing_without_fault(copy, sorted({test for found in tests.values() for test in found[:_FIRST]}))
        print(f"left out, as they fail without any fault: {sorted(failing)}", flush=True)
        tests = {fault: [test for test in found if test not in failing] for fault, found in tests.items()}
        for turn, fault in enumerate(chosen, 1):
            found, what = judged(copy, fault, tests[fault])
            noticed += found
            verdict = "noticed" if found else "MISSED " if tests[fault] else "NO TEST"
            print(f"{turn}/{len(chosen)} {verdict} {what} ({len(tests[fault])} tests)", flush=True)
    print(
        f"score {noticed / len(chosen):.0%}: {noticed} of {len(chosen)} faults noticed, of {len(everything)} possible"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
