"""Execute docs/notebook.ipynb in place and keep its small outputs: `python benchmarks/notebook.py RUN`.

RUN is a run folder, made by `traceanalyzer run --schedule 1F1B --ranks 4 --microbatches 8 --out runs/first`. It is shown
as `runs/first`.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).parents[1] / "docs/notebook.ipynb"
MOST_CHARACTERS = 20_000
"""Of one output; a page that a live notebook shows is left to its text."""


def execute(run: Path, folder: Path) -> nbformat.NotebookNode:
    """The notebook as executed on `run`, working in `folder`. Raises where a cell fails."""
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    os.environ["TRACEANALYZER_RUN"] = str(run)
    NotebookClient(
        notebook, timeout=120, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
    ).execute()
    return notebook


def without_large_outputs(notebook: nbformat.NotebookNode, run: Path) -> nbformat.NotebookNode:
    """The notebook for the documentation: no page, no place on this machine, no times of execution."""
    for cell in notebook.cells:
        cell.metadata = {}
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            for kind in [kind for kind, text in data.items() if len(text) > MOST_CHARACTERS]:
                del data[kind]
            for place in (data, output):
                for kind, text in place.items():
                    if isinstance(text, str):
                        place[kind] = text.replace(str(run), "runs/first")
    notebook.metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    return notebook


def main() -> None:
    run = Path(sys.argv[1]).resolve()
    nbformat.write(without_large_outputs(execute(run, run.parent), run), NOTEBOOK)
    print(f"{NOTEBOOK}: {NOTEBOOK.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
