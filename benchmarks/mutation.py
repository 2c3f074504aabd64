"""Mutation testing of `measurements/` and `theory/`: how many small faults the tests of their own folder notice.

    python benchmarks/mutation.py --count 60 --seed 1

A fault is one changed operator, comparison, constant or negated condition in a copy of the package; the tests of the part it
lies in run against the copy and stop at the first failure. The score is the share of faults that were noticed.
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
            node.value = value + 1
            return f"line {node.lineno}: {value} became {value + 1}"
    raise TypeError(node)


def noticed(copy: Path, file: Path) -> bool:
    """Whether the tests of a file's part, its own folder first, fail on the copy."""
    part, *inner = file.relative_to(ROOT / "traceanalyzer").parts
    own = copy / "tests" / part / inner[0]
    for tests in ([own] if own.is_dir() else []) + [copy / "tests" / part]:
        command = [
            sys.executable,
            "-m",
            "pytest",
            str(tests),
            "-x",
            "-q",
            "-p",
            "no:randomly",
            "-p",
            "no:cacheprovider",
        ]
        command += ["-m", "not wide and not soak and not runs and not browser and not corpus"]
        environment = {**os.environ, "PYTHONPATH": str(copy)}
        done = subprocess.run(command, cwd=copy, env=environment, capture_output=True, check=False, timeout=900)
        if done.returncode == 1 or done.returncode == 2:  # noqa: PLR1714 - failed, or could not be collected
            return True
    return False


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, default=60)
    parser.add_argument("--seed", type=int, default=1)
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
        chosen = rng.sample(everything, min(asked.count, len(everything)))
        for turn, (file, number) in enumerate(chosen, 1):
            target = copy / file.relative_to(ROOT)
            tree = ast.parse(file.read_text())
            what = f"{file.relative_to(ROOT)} {change(places(tree)[number])}"
            target.write_text(ast.unparse(tree))
            found = noticed(copy, file)
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
