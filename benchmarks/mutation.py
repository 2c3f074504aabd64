"""Mutation testing of `measurements/` and `theory/`: how many small faults the tests of their own folder notice.

    python benchmarks/mutation.py --count 60 --seed 1

A fault is one changed operator, comparison or constant in a copy of the package. The tests that import its module run against the
copy and stop at the first failure; where they notice nothing, those of its folder and its part run too, unless `--near` is given.
The score is the share of faults that were noticed.
"""

from __future__ import annotations

import argparse
import ast
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
PARTS = ("measurements", "theory")
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


def tests_of(root: Path, file: Path) -> list[list[str]]:
    """Tests of a module, the nearest first: those that import it, then its folder's, then its part's."""
    module = ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    package, _, name = module.rpartition(".")
    imports = re.compile(
        rf"from {re.escape(module)} import|from {re.escape(package)} import .*\b{name}\b|import {re.escape(module)}\b"
    )
    tests = sorted((root / "tests").rglob("test_*.py"))
    near = [str(test) for test in tests if imports.search(test.read_text())]
    part, *inner = file.relative_to(ROOT / "traceanalyzer").parts
    folders = [root / "tests" / part / inner[0], root / "tests" / part]
    return [near, *([str(folder)] for folder in folders if folder.is_dir())]


def noticed(copy: Path, file: Path, *, near_only: bool) -> bool:
    """Whether the tests of a module fail on the copy; one that never ends counts as failing."""
    environment = {**os.environ, "PYTHONPATH": str(copy), "POLARS_MAX_THREADS": "1"}
    places = [tests for tests in tests_of(copy, file) if tests]
    for tests in places[:1] if near_only else places:
        command = [sys.executable, "-m", "pytest", *tests, "-x", "-q", "-p", "no:randomly", "-p", "no:cacheprovider"]
        command += ["-m", "not wide and not soak and not runs and not browser and not corpus"]
        try:
            done = subprocess.run(command, cwd=copy, env=environment, capture_output=True, check=False, timeout=1800)
        except subprocess.TimeoutExpired:
            return True
        if done.returncode in (1, 2):  # failed, or could not be collected
            return True
    return False


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, default=60)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--near", action="store_true", help="only tests that import the module: a lower bound, in minutes"
    )
    parser.add_argument("--first", type=int, default=0, help="leave out so many of the faults")
    asked = parser.parse_args()
    rng = random.Random(asked.seed)  # noqa: S311 - which faults, no secret
    files = [file for part in PARTS for file in sorted((ROOT / "traceanalyzer" / part).rglob("*.py"))]
    everything = [(file, n) for file in files for n in range(len(places(ast.parse(file.read_text()))))]
    missed: list[str] = []
    with tempfile.TemporaryDirectory() as scratch:
        copy = Path(scratch)
        for name in ("traceanalyzer", "reports", "instrumented_runs", "tests", "docs"):
            shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        for name in ("pyproject.toml", "hatch_build.py", "mkdocs.yml"):
            shutil.copy(ROOT / name, copy / name)
        chosen = rng.sample(everything, min(asked.count, len(everything)))[asked.first :]
        for turn, (file, number) in enumerate(chosen, 1):
            target = copy / file.relative_to(ROOT)
            tree = ast.parse(file.read_text())
            what = f"{file.relative_to(ROOT)} {change(places(tree)[number])}"
            target.write_text(ast.unparse(tree))
            found = noticed(copy, file, near_only=asked.near)
            target.write_text(file.read_text())
            missed += [] if found else [what]
            print(f"{turn}/{len(chosen)} {'noticed' if found else 'MISSED'} {what}", flush=True)
    killed = len(chosen) - len(missed)
    print(
        f"score {killed / len(chosen):.0%}: {killed} of {len(chosen)} faults noticed, of {len(everything)} possible ones"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
