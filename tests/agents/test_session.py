"""A real client's session over standard input and output: every tool, its refusals, and nothing written."""

from __future__ import annotations

import json
import sys
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from inputs.tiny_trace import run_of
from launched.gpipe_run import GPIPE, with_job

from traceanalyzer.cli import main

anyio = pytest.importorskip("anyio", reason="agents are tested with the package mcp")
mcp = pytest.importorskip("mcp", reason="agents are tested with the package mcp")

ROOT = Path(__file__).parents[2]
TOOLS = {"folders", "analyze", "findings", "review", "compare", "tables", "table", "sql", "predict"}


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """A folder with a run of two ranks and a result of it, and a secret beside the folder."""
    with_job(run_of(tmp_path / "runs/first", GPIPE))
    assert main(["analyze", str(tmp_path / "runs/first"), "--out", str(tmp_path / "runs/kept")]) == 0
    (tmp_path / "secret.csv").write_text("password\nhunter2\n")
    return tmp_path / "runs"


def session(folder: Path, talk: Callable[[Any], Awaitable[None]]) -> None:
    """Start the server as an agent does, and talk to it."""

    async def connected() -> None:
        server = mcp.StdioServerParameters(
            command=sys.executable, args=["-m", "traceanalyzer", "mcp", str(folder)], cwd=ROOT
        )
        async with mcp.Client(server) as client:
            await talk(client)

    with ThreadPoolExecutor(1) as thread:  # a browser that another test drives keeps a loop in this one
        thread.submit(anyio.run, connected).result()


def content(folder: Path) -> dict[str, tuple[int, int]]:
    return {str(p): (p.stat().st_size, p.stat().st_mtime_ns) for p in folder.rglob("*") if p.is_file()}


def test_an_agent_finds_runs_the_verdict_and_rows(runs: Path) -> None:
    before = content(runs)

    async def talk(client: Any) -> None:
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
        assert set(tools) == TOOLS
        assert all(tool.annotations.read_only_hint and tool.description for tool in tools.values())
        assert all(tool.output_schema for tool in tools.values())

        async def ask(tool: str, /, **arguments: Any) -> Any:
            answer = await client.call_tool(tool, arguments)
            assert not answer.is_error, answer.content
            return answer.structured_content

        assert await ask("folders") == {str(runs): ["first/", "kept/"]}
        for path in ("first", "kept", str(runs / "first")):
            found = await ask("analyze", path=path)
            assert found["figures"]["bubble.measured_share"]["value"] == pytest.approx(1 / 3)
            assert found["quality"]["verdict"] == "complete"
            assert {"metric", "reason"} <= set(found["withheld"][0])
            assert found["tables"]["actions"] == 8
        checked = (await ask("findings", path="first", passed=True))["result"]
        assert {"id", "passed", "evidence"} <= set(checked[0])
        assert (await ask("review", path="first", field="bubble.theory"))["value"]["schedule"] == "GPipe"
        assert (await ask("review", path="first", field="bubble.stages.1.ranks.0"))["value"] == 1
        listed = (await ask("tables"))["result"]
        assert "kernels" in {table["name"] for table in listed}
        described = (await ask("tables", name="actions"))["result"][0]
        assert "duration_ms" in {column["name"] for column in described["columns"]}
        rows = await ask(
            "table",
            path="first",
            name="actions",
            where="rank == 1 and duration_ms > 15",
            columns=["microbatch"],
            limit=1,
        )
        assert rows == {"columns": ["microbatch"], "rows": [[0]], "num_rows": 2, "is_cut": True}
        summed = await ask(
            "sql", path="kept", query="select rank, count(*) as n from actions group by rank order by rank"
        )
        assert summed["rows"] == [[0, 4], [1, 4]]
        raw = await ask("sql", path="first", query="select count(*) as n from events")
        assert raw["rows"][0][0] > 8
        told = await ask("compare", base="first", new=["kept"])
        assert (told["pairs"][0]["verdict"], told["pairs"][0]["change_ns"]) == ("noise", 0)
        predicted = await ask("predict", schedules=["1F1B"], stages=3, microbatches=7)
        assert predicted["schedules"][0]["bubble_share"] == pytest.approx(2 / 9)

    session(runs, talk)
    assert content(runs) == before


@pytest.mark.wide
def test_refusals_are_structured_and_tell_nothing_of_other_files(runs: Path) -> None:
    secret = runs.parent / "secret.csv"
    (runs / "leak").symlink_to(secret)
    refused: list[tuple[str, dict[str, Any], int, str]] = [
        ("analyze", {"path": "../secret.csv"}, 2, "'..'"),
        ("analyze", {"path": str(secret)}, 2, "is not in the folders"),
        ("analyze", {"path": "leak"}, 2, "outside"),
        ("analyze", {"path": "https://example.org/t.json"}, 2, "is not the path"),
        ("analyze", {"path": "first", "job": str(secret)}, 2, "is not in the folders"),
        ("analyze", {"path": "first", "ranks": [9]}, 2, "chosen ranks"),
        ("analyze", {"path": "kept", "tokens_per_step": 5}, 2, "is a kept result"),
        ("predict", {"schedules": ["1F1B"], "stages": 2, "microbatches": 4, "model": str(secret)}, 2, "is not in"),
        ("table", {"path": "first", "name": "actions", "where": "nosuch > 1"}, 2, "nosuch"),
        ("table", {"path": "first", "name": "passwords"}, 2, "there is no table"),
        ("sql", {"path": "first", "query": "select * from read_csv('secret.csv')"}, 2, "may not read files"),
        ("sql", {"path": "first", "query": "drop table actions"}, 2, "SELECT"),
        ("review", {"path": "first", "field": "bubble.nosuch"}, 2, "has no nosuch"),
        ("tables", {"name": "passwords"}, 2, "there is no table"),
    ]

    async def talk(client: Any) -> None:
        for name, arguments, status, told in refused:
            answer = await client.call_tool(name, arguments)
            assert answer.is_error, (name, arguments)
            error = json.loads(answer.content[0].text)
            assert error == answer.structured_content
            assert error["exit_status"] == status
            assert told in error["message"]
            assert "hunter2" not in answer.content[0].text
        over = await client.call_tool("table", {"path": "first", "name": "actions", "limit": 1001})
        assert over.is_error
        assert "1000" in over.content[0].text

    session(runs, talk)


@pytest.mark.wide
def test_a_run_that_changed_is_measured_again(runs: Path) -> None:
    async def talk(client: Any) -> None:
        first = await client.call_tool("table", {"path": "first", "name": "actions", "columns": ["rank"]})
        assert first.structured_content["num_rows"] == 8
        (runs / "first/traces/rank00001.json").unlink()
        again = await client.call_tool("table", {"path": "first", "name": "actions", "columns": ["rank"]})
        assert again.structured_content["num_rows"] == 4

    session(runs, talk)


def test_the_command_needs_folders(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["mcp"]) == 2
    assert main(["mcp", str(tmp_path / "missing")]) == 2
    message, hint = capsys.readouterr().err.splitlines()[-2:]
    assert "is not a folder" in message
    assert hint.startswith("  ")


def test_without_the_package_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "mcp", None)
    assert main(["mcp", str(tmp_path)]) == 2
    assert "pip install 'traceanalyzer-llm[mcp]'" in capsys.readouterr().err
