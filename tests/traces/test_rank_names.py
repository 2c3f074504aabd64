"""Ranks that the names of files tell, and what is asked where they tell none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from traceanalyzer.cli import main
from traceanalyzer.errors import InputError
from traceanalyzer.traces import read_traces
from traceanalyzer.traces.kineto.ranks.names import rank_in_name, ranks_in_names

NAMED = {
    "torchtune": ("rank7_trace.json", 7),
    "composer": ("ep3-ba250-rank2.json", 2),
    "Primus": ("exp[mixtral-8x7b-run3]-rank[11].1790.pt.trace.json.gz", 11),
    "vLLM": ("dp1_pp0_tp2_dcp0_ep5_rank6.1790857026.pt.trace.json.gz", 6),
    "TensorBoard worker": ("worker4.1790857026.pt.trace.json", 4),
    "Megatron-LM": ("torch_profile/rank-15.json.gz", 15),
    "Ray Train": ("rank_3/chrome_trace.json", 3),
    "Slurm": ("prof_procid12.json", 12),
    "rank in parentheses": ("trace rank(5).json", 5),
    "a local rank is none": ("node1_local_rank3.json", None),
    "host and process": ("gpu-07_3311.1790857026.pt.trace.json", None),
}


@pytest.mark.parametrize("writer", NAMED)
def test_one_name_tells_its_rank(writer: str) -> None:
    name, rank = NAMED[writer]
    assert rank_in_name(name) == rank


COUNTED: dict[str, tuple[list[str], list[int] | None]] = {
    "counting": ([f"out/trace_{n}.json" for n in range(5)], [0, 1, 2, 3, 4]),
    "a sample": ([f"trace-{n}.json" for n in (6, 7)], [6, 7]),
    "sglang, TP": ([f"1790857026.25-TP-{n}.trace.json.gz" for n in (1, 0)], [1, 0]),
    "sglang, TP and PP": (
        [f"17.2-TP-{t}-DP-0-PP-{p}-EP-{t}.trace.json.gz" for p in range(2) for t in range(3)],
        [0, 1, 2, 3, 4, 5],
    ),
    "nodes": ([f"node{n}/gpu{g}.json" for n in range(2) for g in range(4)], list(range(8))),
    "Slurm array": ([f"job81231.{n}.json" for n in range(3)], [0, 1, 2]),
    "time stamps beside": ([f"t{n}_{1790857026 + n}.json" for n in range(2)], [0, 1]),
    "steps": ([f"step_{n}.json" for n in range(3)], None),
    "processes": ([f"host_{n}.json" for n in (811, 812)], None),
    "a hole in the grid": ([f"x-TP-{t}-PP-{p}.json" for p, t in ((0, 0), (0, 1), (1, 1))], None),
    "two that count": ([f"a{n}b{n}.json" for n in range(2)], None),
    "other words": (["first.json", "second.json"], None),
}


@pytest.mark.parametrize("names", COUNTED)
def test_names_together_tell_ranks(names: str) -> None:
    files, ranks = COUNTED[names]
    assert list(ranks_in_names(files).values()) == (ranks or [])


def traced(folder: Path, name: str, at: float = 100.0, **more: Any) -> Path:
    folder.mkdir(exist_ok=True)
    events = [
        {"ph": "X", "cat": "cpu_op", "name": "aten::mm", "pid": 3, "tid": 3, "ts": at + n, "dur": 0.5} for n in range(4)
    ]
    file = folder / name
    file.write_text(json.dumps({"traceEvents": [*events, {"name": name, "ph": "i", "ts": at}]} | more))
    return file


def ranks_of(path: Path, **asked: Any) -> list[int]:
    return read_traces(path, **asked).ranks["rank"].to_list()


def test_files_of_one_time_are_ranks_and_files_one_after_the_other_are_asked_about(tmp_path: Path) -> None:
    for number in range(3):
        traced(tmp_path / "ranks", f"prof_{number}.json")
        traced(tmp_path / "later", f"prof_{number}.json", at=100 + 50 * number)
    assert ranks_of(tmp_path / "ranks") == [0, 1, 2]
    with pytest.raises(InputError) as refused:
        read_traces(tmp_path / "later")
    assert '--rank-map \'{"prof_0.json": 0, "prof_1.json": 1, "prof_2.json": 2}\'' in str(refused.value.hint)


def test_a_rank_map_is_written_out_where_each_process_made_its_own_group(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = {"distributedInfo": {"rank": 0, "world_size": 1, "backend": "nccl"}}
    for rank in (2, 3, 4):
        traced(tmp_path / "t", f"rank{rank}.json", **own)
    assert main(["check", str(tmp_path / "t")]) == 3
    said = capsys.readouterr().err
    assert "each records rank 0 of its own process group, and the file names say ranks 2, 3, 4" in said
    given = said[said.index("--rank-map '") + 12 : said.rindex("'")]
    assert main(["check", str(tmp_path / "t"), "--rank-map", given]) == 0
    assert "3 of an unknown number of ranks (2, 3, 4)" in capsys.readouterr().out


@pytest.mark.parametrize("command", [["check"], ["analyze"], ["report", "-o", "{tmp}/r.html"]])
def test_several_paths_are_one_run(command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = [str(traced(tmp_path / f"node{rank}", f"rank{rank}.json")) for rank in range(3)]
    (tmp_path / "notes.txt").write_text("nothing")
    words = [word.format(tmp=tmp_path) for word in command]
    assert main([*words, *files, str(tmp_path / "notes.txt"), files[0]]) == 0
    told = capsys.readouterr().out
    assert "3 of an unknown number" in told or "3 captured ranks (of an unknown number)" in told


def test_tables_of_several_paths(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = [str(traced(tmp_path / f"node{rank}", f"rank{rank}.json")) for rank in range(2)]
    assert main(["table", *files, "events", "--format", "csv"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 1 + 2 * 5
    assert main(["table", *files]) == 2


def test_an_address_of_version_six_is_no_url(tmp_path: Path) -> None:
    file = traced(tmp_path / "v6", "fe80::a1:2_77.1790.pt.trace.json")
    assert ranks_of(file) == [0]
    assert ranks_of(tmp_path / "v6") == [0]
