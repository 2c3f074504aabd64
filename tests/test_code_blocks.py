"""Code in README and docs: Python that imports what exists and runs, settings that load."""

from __future__ import annotations

import ast
import json
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest
from inputs.tiny_trace import run_of
from launched.gpipe_run import GPIPE, with_job
from pages import MANUAL, ROOT

import traceanalyzer as ta
from traceanalyzer.gates.file import read_gate


def blocks(page: Path) -> Iterator[str]:
    """Indented blocks of a page."""
    found = re.findall(r"(?:^ {4}.*\n|^\n(?= {4}))+", page.read_text(encoding="utf-8"), re.MULTILINE)
    yield from (textwrap.dedent(block).strip("\n") for block in found)


def python_blocks(page: Path) -> list[str]:
    """Blocks that are Python: they parse, and import something or call this package."""
    found: list[str] = []
    for block in blocks(page):
        try:
            tree = ast.parse(block)
        except SyntaxError:
            continue
        if any(isinstance(node, ast.Import | ast.ImportFrom | ast.With) for node in ast.walk(tree)):
            found.append(block)
    return found


def block_of(name: str, text: str) -> str:
    """The one block of a page that contains `text`."""
    (found,) = (block for block in blocks(ROOT / name) if text in block)
    return found


PYTHON = [(page.name, block) for page in MANUAL for block in python_blocks(page)]


def names_of(module: str) -> set[str]:
    """What a module of this repository defines or imports, without importing it: it may need a package that is not here."""
    path = ROOT.joinpath(*module.split("."))
    path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            found.add(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            found |= {name.asname or name.name for name in node.names}
    return found


@pytest.mark.parametrize(("page", "block"), PYTHON, ids=[f"{page}-{at}" for at, (page, _) in enumerate(PYTHON)])
def test_what_a_block_names_of_this_package_exists(page: str, block: str) -> None:
    for node in ast.walk(ast.parse(block)):
        if isinstance(node, ast.ImportFrom) and str(node.module).split(".")[0] in (
            "traceanalyzer",
            "instrumented_runs",
        ):
            assert {name.name for name in node.names} <= names_of(str(node.module)), page
        if (
            isinstance(node, ast.Attribute)
            and isinstance(node.value, ast.Name)
            and node.value.id in ("ta", "traceanalyzer")
        ):
            assert node.attr in dir(ta), f"{page}: {node.attr}"


def test_there_are_blocks_to_check() -> None:
    assert {"README.md", "python.md", "framework-hooks.md", "reference-runs.md"} <= {page for page, _ in PYTHON}


@pytest.mark.wide
def test_the_flow_of_the_python_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_job(run_of(tmp_path / "runs" / "first", GPIPE))
    monkeypatch.chdir(tmp_path)
    exec(block_of("docs/python.md", "run = ta.read"), {})  # noqa: S102 - the page's own code
    assert (tmp_path / "report.html").exists()


@pytest.mark.runs
def test_the_recorder_of_the_readme_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch = pytest.importorskip("torch")

    monkeypatch.chdir(tmp_path)
    matrix = torch.ones(8, 8)
    names = {"data": range(9), "train": lambda _batch: matrix @ matrix}
    exec(block_of("README.md", "ta.Recorder"), names)  # noqa: S102 - the page's own code
    assert ta.analyze("runs/mine").review.step.duration_ms.num_steps


def test_the_gate_of_the_gates_page_loads(tmp_path: Path) -> None:
    parts = [block for block in blocks(ROOT / "docs/gates.md") if block.startswith(("baseline", "[[limit]]"))]
    (tmp_path / "gate.toml").write_text("\n\n".join(parts), encoding="utf-8")
    assert [limit.path for limit in read_gate(tmp_path / "gate.toml").limit] == [
        "step.duration_ms.median",
        "bubble.measured_share",
        "accounting.owners[owner=compute].share",
        "stragglers[*].cost_ms",
        "findings[id=ranks.computation].passed",
    ]


def test_settings_written_as_json_are_json() -> None:
    found = [block for page in MANUAL for block in blocks(page) if block.startswith('{"') and "..." not in block]
    assert len(found) >= 3
    assert all(json.loads(block.splitlines()[0]) for block in found)
