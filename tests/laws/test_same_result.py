"""What may not change a result: the order of events and files, compression, workers, hash seed, locale, time zone, clocks."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import json
import lzma
import os
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import zstandard
from planted import Faults, Job, plant

from traceanalyzer.analysis.assemble import analyze, read
from traceanalyzer.review import to_json
from traceanalyzer.traces.capture.ingest import ingest

JOB = Job(pp=2, dp=2, num_microbatches=3, num_steps=2, kernels_per_action=2)
MODEST = Faults(slow_compute={2: 1.3}, clock_offset_ns={1: 400_000})


@pytest.fixture(scope="module")
def documents(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    planted = plant(JOB, MODEST, tmp_path_factory.mktemp("planted"))
    files = sorted(planted.traces.rglob("*.json.gz"))
    return {file.name.removesuffix(".gz"): json.loads(gzip.decompress(file.read_bytes())) for file in files}


def figures(path: Path) -> dict[str, Any]:
    """The review without what names its files."""
    review = json.loads(to_json(analyze(read(path)).review))
    for name in ("source", "provenance", "files", "created"):
        review.pop(name, None)
    for defect in review["quality"]["defects"]:
        defect.pop("file", None)
    return review


def put(
    folder: Path, documents: dict[str, dict[str, Any]], pack: Callable[[bytes], bytes] = bytes, end: str = ""
) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, document in documents.items():
        (folder / f"{name}{end}").write_bytes(pack(json.dumps(document).encode()))
    return folder


@pytest.fixture(scope="module")
def plain(documents: dict[str, dict[str, Any]], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return figures(put(tmp_path_factory.mktemp("plain"), documents))


@pytest.mark.parametrize(
    ("pack", "end"),
    [(gzip.compress, ".gz"), (bz2.compress, ".bz2"), (lzma.compress, ".xz"), (zstandard.compress, ".zst")],
    ids=["gz", "bz2", "xz", "zst"],
)
def test_compression_changes_nothing(
    pack: Callable[[bytes], bytes], end: str, documents: dict[str, Any], plain: dict[str, Any], tmp_path: Path
) -> None:
    assert figures(put(tmp_path / "t", documents, pack, end)) == plain


def test_the_order_of_events_changes_nothing(documents: dict[str, Any], plain: dict[str, Any], tmp_path: Path) -> None:
    shuffled = {}
    for number, (name, document) in enumerate(documents.items()):
        events = list(document["traceEvents"])
        random.Random(number).shuffle(events)  # noqa: S311 - an order, no secret
        shuffled[name] = document | {"traceEvents": events}
    assert figures(put(tmp_path / "t", shuffled)) == plain


def test_the_names_and_order_of_files_change_nothing(
    documents: dict[str, Any], plain: dict[str, Any], tmp_path: Path
) -> None:
    renamed = {f"{'zyxw'[at]}_rank{at}.json": document for at, document in enumerate(documents.values())}
    assert figures(put(tmp_path / "t", dict(reversed(renamed.items())))) == plain


@pytest.mark.parametrize("workers", [1, 2])
def test_a_capture_by_any_number_of_workers_changes_nothing(
    workers: int, documents: dict[str, Any], plain: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("traceanalyzer.traces.capture.ingest._WORTH_WORKERS", 0)
    ingest([put(tmp_path / "t", documents)], tmp_path / "c", num_workers=workers)
    assert figures(tmp_path / "c") == plain


@pytest.mark.wide
def test_the_environment_changes_no_byte(documents: dict[str, Any], tmp_path: Path) -> None:
    folder = put(tmp_path / "t", documents)
    command = [sys.executable, "-m", "traceanalyzer", "analyze", str(folder), "--json", "-"]
    sums = set()
    for seed, zone, locale, threads in (("0", "UTC", "C", "1"), ("7", "Asia/Kathmandu", "tr_TR.UTF-8", "2")):
        more = {"PYTHONHASHSEED": seed, "TZ": zone, "LC_ALL": locale, "LANG": locale, "POLARS_MAX_THREADS": threads}
        result = subprocess.run(command, capture_output=True, check=True, env=os.environ | more)
        lines = [line for line in result.stdout.splitlines() if b'"created"' not in line]
        sums.add(hashlib.sha256(b"\n".join(lines)).hexdigest())
    assert len(sums) == 1


@pytest.mark.sweep(1)
@pytest.mark.parametrize(
    "faults",
    [
        Faults(clock_offset_ns={1: 250_000_000}),
        Faults(clock_offset_ns={2: -250_000_000, 3: 125_000_000}),
        Faults(clock_drift_ppm={1: 200.0}),
        Faults(clock_drift_ppm={3: -200.0}, clock_offset_ns={1: 250_000_000}),
    ],
    ids=["250 ms", "two clocks", "200 ppm", "both"],
)
def test_a_clock_makes_no_straggler(faults: Faults, tmp_path: Path) -> None:
    """No rank is accused in a healthy job whose clocks are wrong, and none of its figures moves with them."""
    job = Job(pp=2, dp=2, num_microbatches=3, num_steps=3, kernels_per_action=2, ranks_per_host=1)
    straight = analyze(read(plant(job, Faults(), tmp_path / "straight").traces)).review
    skewed = analyze(read(plant(job, faults, tmp_path / "skewed").traces)).review
    accused = msgspec.json.encode(skewed.culprits) if skewed.culprits else b"null"
    assert accused == (msgspec.json.encode(straight.culprits) if straight.culprits else b"null")
    assert not any("slow" in sentence for sentence in skewed.headline.sentences)
