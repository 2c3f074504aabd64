"""Results and reports that are handed on: no original name is left in them, and figures stay what they were."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest
from catalogue.base import Trace, each_complete, text, trace, write

from traceanalyzer.cli import main

HOST, USER, KERNEL, GROUP = "gpu-node-vault-17", "jane.roe", "secret_fused_kernel_v9", "expert_mesh_falcon"
SECRETS = (HOST, USER, KERNEL, GROUP, "project-falcon")


@pytest.fixture
def traces(tmp_path: Path) -> Path:
    folder = tmp_path / "home" / USER / "project-falcon" / "traces"
    for rank in range(2):
        document: Trace = trace(rank, 2)
        document["host_name"] = HOST
        document["traceName"] = f"/home/{USER}/project-falcon/out.json"
        document["environment"] = {"API_KEY": "project-falcon"}
        document["distributedInfo"]["pg_config"][0]["pg_desc"] = GROUP
        each_complete(document, lambda event: event.update(name=event["name"].replace("gemm_", KERNEL)))
        write(folder, text(document), f"{HOST}_{40 + rank}.rank{rank}.json")
    return folder


def left_in(path: Path) -> list[str]:
    """Secrets in a file, also of a table's cells."""
    content = path.read_bytes()
    if path.suffix == ".parquet":
        content += str(pl.read_parquet(path).to_dicts()).encode()
    return [secret for secret in SECRETS if secret.encode() in content]


@pytest.mark.wide
def test_nothing_of_the_originals_is_left(traces: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, page, record = tmp_path / "result", tmp_path / "page.html", tmp_path / "review.json"
    assert main(["analyze", str(traces), "--redact", "all", "--out", str(out), "--json", str(record)]) == 0
    assert main(["report", str(out), "--redact", "all", "-o", str(page)]) == 0
    assert main(["report", str(traces), "--redact", "all", "-o", str(tmp_path / "direct.html")]) == 0
    said = capsys.readouterr()
    files = [record, page, tmp_path / "direct.html", *(file for file in out.rglob("*") if file.is_file())]
    assert {file.name: found for file in files if (found := left_in(file))} == {}
    lines = [line for line in (said.out + said.err).splitlines() if str(tmp_path) not in line]
    assert [line for line in lines if any(secret in line for secret in SECRETS)] == []


@pytest.mark.wide
def test_without_redaction_they_are_there(traces: Path, tmp_path: Path) -> None:
    assert main(["analyze", str(traces), "--out", str(tmp_path / "result")]) == 0
    found = {secret for file in (tmp_path / "result").rglob("*") if file.is_file() for secret in left_in(file)}
    assert {HOST, KERNEL, USER} <= found


@pytest.mark.wide
def test_pseudonyms_are_stable_and_figures_unchanged(
    traces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def kernels(name: str, *options: str) -> pl.DataFrame:
        assert main(["analyze", str(traces), "--out", str(tmp_path / name), *options]) == 0
        return pl.read_parquet(tmp_path / name / "tables" / "kernels.parquet")

    plain, first, again = kernels("plain"), kernels("a", "--redact", "kernels"), kernels("b", "--redact", "kernels")
    assert first.equals(again)
    assert first.drop("name").equals(plain.drop("name"))
    assert first["name"].cast(pl.String).n_unique() == plain["name"].cast(pl.String).n_unique()
    monkeypatch.setenv("TRACEANALYZER_REDACT_KEY", "mine")
    assert not kernels("keyed", "--redact", "kernels")["name"].cast(pl.String).equals(first["name"].cast(pl.String))


def test_only_the_chosen_classes_are_replaced(traces: Path, tmp_path: Path) -> None:
    record = tmp_path / "review.json"
    assert main(["analyze", str(traces), "--redact", "hosts", "--json", str(record)]) == 0
    assert HOST not in record.read_text()
    assert KERNEL in record.read_text()
    assert json.loads(record.read_text())["schema_version"]


def test_a_class_that_is_none_is_named(traces: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["analyze", str(traces), "--redact", "hosts,moons"]) == 2
    assert "moons" in capsys.readouterr().err


@pytest.mark.wide
def test_a_page_lists_what_it_reveals_and_names_files_from_the_given_place_on(traces: Path, tmp_path: Path) -> None:
    assert main(["report", str(traces), "-o", str(tmp_path / "page.html"), "--json", str(tmp_path / "r.json")]) == 0
    page = (tmp_path / "page.html").read_text()
    revealed = page[page.index("What this page reveals") :][:3000]
    assert HOST in revealed
    assert "--redact all" in revealed
    files = [each["file"] for each in json.loads((tmp_path / "r.json").read_text())["files"]]
    assert files == [f"{HOST}_{40 + rank}.rank{rank}.json" for rank in range(2)]
    assert main(["report", str(traces), "-o", str(tmp_path / "page.html"), "--redact", "all"]) == 0
    redacted = (tmp_path / "page.html").read_text()
    revealed = redacted[redacted.index("What this page reveals") :][:3000]
    assert "host-" in revealed
    assert HOST not in revealed
