"""`traceanalyzer collect`: folders of nodes become one run folder, whatever is wrong with them."""

from __future__ import annotations

from pathlib import Path

import pytest

from traceanalyzer.cli import main

ID = "20260301T101112-0badcafe"


def node(folder: Path, rank: int, job_id: str = ID) -> Path:
    for name in ("traces", "steps", "status"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / f"traces/rank{rank:05d}.json.gz").write_bytes(b"trace %d" % rank * 1000)
    (folder / f"steps/rank{rank:05d}.jsonl").write_text(f'{{"step":0,"job_id":"{job_id}"}}\n')
    (folder / f"status/rank{rank:05d}.json").write_text(f'{{"job_id":"{job_id}"}}')
    return folder


def collected(*arguments: Path | str) -> int:
    return main(["collect", *map(str, arguments)])


def test_folders_become_one_and_a_second_time_changes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nodes = [node(tmp_path / f"n{rank}", rank) for rank in range(3)]
    (nodes[0] / "run.json").write_text(f'{{"job_id":"{ID}"}}')
    out = tmp_path / "run"
    assert collected(*nodes[:2], "--out", out) == 0
    assert collected(*nodes, "--out", out) == 0
    told = capsys.readouterr()
    assert told.out == f"{out}\n{out}\n"
    assert "7 files copied" in told.err
    assert "3 files copied (0.0 MB), 7 there already" in told.err
    names = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    assert len(names) == 10
    for each in nodes:
        for path in [path for path in each.rglob("*") if path.is_file()]:
            assert (out / path.relative_to(each)).read_bytes() == path.read_bytes()


@pytest.mark.parametrize(
    ("others", "status", "says"),
    [
        ({"b": "20260301T101113-0badcafe"}, 3, "holds run"),
        ({"b": ""}, 3, "holds no run of a recorder"),
        ({"out": "20260301T101113-0badcafe"}, 2, "holds another run"),
    ],
)
def test_other_runs_are_never_mixed_in(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], others: dict[str, str], status: int, says: str
) -> None:
    node(tmp_path / "a", 0)
    node(tmp_path / "b", 1, others.get("b", ID))
    if "out" in others:
        node(tmp_path / "out", 1, others["out"])
    assert collected(tmp_path / "a", tmp_path / "b", "--out", tmp_path / "out") == status
    assert says in capsys.readouterr().err
    assert not (tmp_path / "out/traces/rank00000.json.gz").exists()


def test_two_nodes_that_claim_one_rank_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    node(tmp_path / "a", 0)
    (node(tmp_path / "b", 0) / "traces/rank00000.json.gz").write_bytes(b"another")
    assert collected(tmp_path / "a", tmp_path / "b", "--out", tmp_path / "out") == 3
    assert "both claim to be the same file" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_links_out_of_a_folder_are_not_followed_and_nodes_inside_the_target_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "secret").write_text("key")
    (node(tmp_path / "a", 0) / "traces/rank00001.json.gz").symlink_to(tmp_path / "secret")
    assert collected(tmp_path / "a", "--out", tmp_path / "out") == 0
    assert not (tmp_path / "out/traces/rank00001.json.gz").exists()
    assert collected(tmp_path / "a", "--out", tmp_path) == 2
    assert "lie within each other" in capsys.readouterr().err
