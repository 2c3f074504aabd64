"""Captures that are handed on: no original name in any byte of them, compressed ones too, and figures as they were."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import zstandard
from catalogue.base import Trace, each_complete, text, trace, write
from planted import Faults, Job, plant

from traceanalyzer.analysis.assemble import analyze, read
from traceanalyzer.cli import main
from traceanalyzer.review import to_json
from traceanalyzer.traces import read_traces
from traceanalyzer.traces.capture.names.pseudonyms import CLASSES

HOST, USER = "gpu-node-vault-17.lab.example", "jane.roe"
WORDS = ("vault", "jane", "falcon", "zebra", "kestrel", "quokka", "lemur", "heron", "10-9-8-7")
_FRAME = b"\x28\xb5\x2f\xfd"


def secret_trace(rank: int, num_ranks: int) -> Trace:
    document: Trace = trace(rank, num_ranks)
    document["host_name"] = HOST
    document["traceName"] = f"/home/{USER}/falcon/out.json"
    document["environment"] = {"API_KEY": "falcon"}
    document["distributedInfo"]["pg_config"][0]["pg_desc"] = "expert_mesh_kestrel"
    each_complete(document, _name_it)
    return document


def _name_it(event: dict[str, object]) -> None:
    name = str(event["name"])
    if event.get("cat") == "kernel":
        event["name"] = name.replace("gemm_", "zebra_gemm_v9_")
    args = event.setdefault("args", {})
    assert isinstance(args, dict)
    args |= {
        "Call stack": f"/home/{USER}/falcon/quokka.py(12): lemur_forward;{HOST}",
        "unknown heron": {"tag": "heron"},
    }


@pytest.fixture
def traces(tmp_path: Path) -> Path:
    folder = tmp_path / "home" / USER / "falcon" / "traces"
    for rank in range(2):
        write(folder, text(secret_trace(rank, 2)), f"{HOST}_ip-10-9-8-7_{40 + rank}.rank{rank}.json")
    return folder


def contents(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Every file's bytes, and those of every compressed page inside."""
    for file in sorted(folder.rglob("*")):
        if file.is_file():
            data = file.read_bytes()
            yield file.name, data + str(file).encode()[len(str(folder)) :]
            for piece in data.split(_FRAME)[1:]:
                yield file.name, zstandard.ZstdDecompressor().decompressobj().decompress(_FRAME + piece)


def left_in(folder: Path, words: tuple[str, ...] = (*WORDS, HOST, USER)) -> set[str]:
    return {word for _, data in contents(folder) for word in words if word.encode() in data.lower()}


def test_nothing_of_the_originals_is_left_in_a_capture(
    traces: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (traces / "broken-falcon.json").write_text("{")
    assert main(["ingest", str(traces), "--out", str(tmp_path / "plain")]) == 0
    assert left_in(tmp_path / "plain") == {*WORDS, HOST, USER}, "the search finds what is there"
    capsys.readouterr()
    assert main(["ingest", str(traces), "--out", str(tmp_path / "c"), "--redact", "all"]) == 0
    assert left_in(tmp_path / "c") == set()
    said = capsys.readouterr().out
    assert [line for line in said.splitlines() if any(word in line for word in WORDS)] == []


@pytest.mark.parametrize(
    ("classes", "gone", "kept"),
    [
        ("hosts", {HOST, "10-9-8-7"}, {"zebra", "quokka", "kestrel"}),
        ("users", {"/home/jane"}, {"zebra", "kestrel", HOST}),
        ("kernels", {"zebra", "heron"}, {"kestrel", HOST}),
    ],
)
def test_only_the_chosen_classes_are_replaced(
    classes: str, gone: set[str], kept: set[str], traces: Path, tmp_path: Path
) -> None:
    assert main(["ingest", str(traces), "--out", str(tmp_path / "c"), "--redact", classes]) == 0
    found = left_in(tmp_path / "c", (*WORDS, HOST, "/home/jane"))
    if classes == "users":  # the files' own paths have the name too, and are a class of their own
        gone = set[str]()
        assert not any(b"/home/jane" in data for name, data in contents(tmp_path / "c") if name.endswith(".parquet"))
    assert not found & gone
    assert kept <= found


def test_the_same_names_give_the_same_capture_and_an_ingest_resumes(traces: Path, tmp_path: Path) -> None:
    ingested = ["ingest", str(traces), "--redact", "all", "--out"]
    assert main([*ingested, str(tmp_path / "a")]) == main([*ingested, str(tmp_path / "b")]) == 0
    assert read_traces(tmp_path / "a").events.equals(read_traces(tmp_path / "b").events)
    before = (tmp_path / "a" / "manifest.json").read_bytes()
    assert main([*ingested, str(tmp_path / "a")]) == 0
    assert (tmp_path / "a" / "manifest.json").read_bytes() == before


def test_a_capture_is_not_extended_with_other_pseudonyms(
    traces: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = ["ingest", str(traces), "--out", str(tmp_path / "c")]
    assert main([*out, "--redact", "all"]) == 0
    assert main(out) != 0
    monkeypatch.setenv("TRACEANALYZER_REDACT_KEY", "mine")
    assert main([*out, "--redact", "all"]) != 0
    assert "other pseudonyms" in capsys.readouterr().err


def test_a_rank_map_holds_for_redacted_files(tmp_path: Path) -> None:
    for rank, name in enumerate(("falcon", "zebra")):
        document = trace(rank, 2)
        del document["distributedInfo"]
        write(tmp_path / "t", text(document), f"{name}.json")
    given = ["--rank-map", '{"falcon.json": 0, "zebra.json": 1}', "--redact", "all"]
    assert main(["ingest", str(tmp_path / "t"), "--out", str(tmp_path / "c"), *given]) == 0
    assert read_traces(tmp_path / "c").ranks["rank"].to_list() == [0, 1]
    assert left_in(tmp_path / "c", ("falcon", "zebra")) == set()


@pytest.mark.parametrize(
    "job",
    [
        Job(pp=3, num_microbatches=4, num_steps=2),
        pytest.param(Job(pp=1, dp=2, ep=2, num_microbatches=2, num_steps=2, moe_layers=2), marks=pytest.mark.wide),
    ],
    ids=["pipeline", "experts"],
)
def test_no_figure_changes(job: Job, tmp_path: Path) -> None:
    planted = plant(job, Faults(), tmp_path / "made")
    for name, more in (("plain", []), ("redacted", ["--redact", ",".join(CLASSES)])):
        assert main(["ingest", str(planted.traces), "--out", str(tmp_path / name), *more]) == 0
    plain, redacted = (_figures(tmp_path / name) for name in ("plain", "redacted"))
    assert plain == redacted


def _figures(capture: Path) -> list[float]:
    """Every number of the review but sizes of files."""
    review = json.loads(to_json(analyze(read(capture)).review))
    found: list[float] = []

    def walk(value: object) -> None:
        if isinstance(value, dict):
            for key in sorted(value):
                walk(value[key])
        elif isinstance(value, list):
            for each in value:
                walk(each)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            found.append(value)

    walk(review)
    return found
