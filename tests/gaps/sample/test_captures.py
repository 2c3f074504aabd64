"""A capture says the same of what is sampled and what is lost as the folder that it was ingested from."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from inputs.tiny_trace import run_of
from launched.gpipe_run import GPIPE, with_job
from msgspec import to_builtins

from traceanalyzer.analysis.assemble import analyze, read
from traceanalyzer.traces.capture.ingest import ingest


def first_missing(folder: Path) -> Path:
    (folder / "traces" / "rank00000.json").unlink()
    return folder


def first_cut(folder: Path) -> Path:
    path = folder / "traces" / "rank00000.json"
    path.write_bytes(path.read_bytes()[:-200])
    return folder


CASES: dict[str, tuple[Callable[[Path], Path], str, list[int]]] = {
    "all": (lambda folder: folder, "complete", []),
    "all, described": (with_job, "complete", []),
    "one that nobody promised": (first_missing, "sampled", []),
    "one that was not to be traced": (lambda f: with_job(first_missing(f), traced_ranks=[1]), "sampled", []),
    "a promised one": (lambda f: with_job(first_missing(f)), "partial", [0]),
    "a damaged one": (first_cut, "partial", []),
    "a run that failed": (lambda f: with_job(f, status="failed"), "partial", []),
}


def said(path: Path, ranks: list[int] | None = None) -> dict[str, Any]:
    review = to_builtins(analyze(read(path, ranks=ranks)).review)
    quality = {
        name: review["quality"][name] for name in ("verdict", "ranks_lost", "num_ranks_expected", "num_ranks_found")
    }
    withheld = sorted((item["metric"], item["reason"]) for item in review["quality"]["withheld"])
    return quality | {"coverage": review["sample"]["coverage"], "headline": review["headline"], "withheld": withheld}


@pytest.mark.sweep(1)
@pytest.mark.parametrize("name", CASES)
def test_a_capture_s_verdict_is_the_folder_s(name: str, tmp_path: Path) -> None:
    change, verdict, lost = CASES[name]
    folder = change(run_of(tmp_path / "run", GPIPE))
    ingest([folder], tmp_path / "capture")
    raw = said(folder)
    assert (raw["verdict"], raw["ranks_lost"]) == (verdict, lost)
    shutil.rmtree(folder)  # the capture has to know by itself
    assert said(tmp_path / "capture") == raw


@pytest.mark.wide
def test_chosen_ranks_of_a_capture_are_promised_no_others(tmp_path: Path) -> None:
    folder = with_job(run_of(tmp_path / "run", GPIPE))
    ingest([folder], tmp_path / "capture")
    alone = said(tmp_path / "capture", [1])
    assert alone["verdict"] == "sampled"
    assert alone == said(folder, [1])
