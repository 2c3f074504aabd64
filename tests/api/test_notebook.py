"""The notebook of the documentation: it runs, what it shows is true, and what is kept of it is small."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from inputs.tiny_trace import run_of
from launched.gpipe_run import GPIPE, with_job

import traceanalyzer as ta

nbformat = pytest.importorskip("nbformat", reason="the notebook is executed with nbclient")
nbclient = pytest.importorskip("nbclient", reason="the notebook is executed with nbclient")
pytest.importorskip("ipykernel", reason="the notebook needs a kernel")
pytest.importorskip("duckdb", reason="the notebook shows DuckDB")

ROOT = Path(__file__).parents[2]


@pytest.fixture
def notebook() -> Any:
    return nbformat.read(ROOT / "docs/notebook.ipynb", as_version=4)


def outputs(notebook: Any) -> list[Any]:
    return [output for cell in notebook.cells for output in cell.get("outputs", [])]


@pytest.mark.wide
def test_every_cell_runs_and_the_result_is_shown(
    notebook: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = with_job(run_of(tmp_path / "run", GPIPE))
    monkeypatch.setenv("TRACEANALYZER_RUN", str(run))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    nbclient.NotebookClient(
        notebook, timeout=120, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    ).execute()
    shown = outputs(notebook)
    pages = [output["data"]["text/html"] for output in shown if "iframe" in output.get("data", {}).get("text/html", "")]
    assert len(pages) == 1
    assert 'sandbox="allow-scripts allow-downloads"' in pages[0]
    told = "".join(output.get("text", "") for output in shown)
    assert all(sentence in told for sentence in ta.analyze(run).review.headline.sentences)
    assert "measured 33.33% of the pipeline phase" in told
    assert shown[-1]["data"]["text/plain"] == "True"
    assert not any(output["output_type"] == "display_data" for output in shown)  # nothing draws by itself


def test_the_kept_copy_was_executed_and_is_small(notebook: Any) -> None:
    assert (ROOT / "docs/notebook.ipynb").stat().st_size < 40_000
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(cell.execution_count for cell in code)
    assert all(cell.outputs for cell in code)
    text = (ROOT / "docs/notebook.ipynb").read_text()
    assert "runs/first" in text
    assert "/tmp/" not in text  # noqa: S108 - no place on a machine is kept
    assert "iframe" not in text
