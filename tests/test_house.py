"""The sizes that CONTRIBUTING.md promises: of files, functions and folders."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
FLOORS = ("traceanalyzer", "reports", "instrumented_runs", "tests", "benchmarks", "examples")
MAX_FILE_LINES = 350
MAX_FUNCTION_LINES = 60
MAX_MODULES = 12
"""In one folder, `__init__.py` not counted."""


def sources() -> Iterator[Path]:
    for floor in FLOORS:
        yield from (ROOT / floor).rglob("*.py")


def test_no_file_is_long() -> None:
    lines = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in sources()}
    assert lines
    assert {name: num for name, num in lines.items() if num > MAX_FILE_LINES} == {}


def test_no_function_is_long() -> None:
    long: dict[str, int] = {}
    for path in sources():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                num = (node.end_lineno or node.lineno) - node.lineno + 1
                if num > MAX_FUNCTION_LINES:
                    long[f"{path.relative_to(ROOT)}: {node.name}"] = num
    assert long == {}


def test_no_folder_is_crowded() -> None:
    modules = Counter(str(path.parent.relative_to(ROOT)) for path in sources() if path.name != "__init__.py")
    assert {folder: num for folder, num in modules.items() if num > MAX_MODULES} == {}
