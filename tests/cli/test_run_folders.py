"""A run is never deleted by the next one unless that is asked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from traceanalyzer.cli import main
from traceanalyzer.cli.running import run


@pytest.fixture
def launched(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Folders that a job would have been launched into."""
    folders: list[Path] = []

    def launch(_kind: str, settings: run.RunSettings, *_more: object) -> Path:
        folders.append(Path(settings.folder))
        return folders[-1]

    monkeypatch.setattr(run, "launch", launch)
    return folders


@pytest.mark.parametrize("name", ["run.json", "log.txt"])
def test_an_earlier_run_is_kept(
    name: str, launched: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "r").mkdir()
    (tmp_path / "r" / name).write_text("{}")
    assert main(["run", "dense", "--out", str(tmp_path / "r")]) == 2
    assert "holds an earlier run" in capsys.readouterr().err
    assert main(["run", "dense", "--out", str(tmp_path / "r"), "--force"]) == 0
    assert main(["run", "dense", "--out", str(tmp_path / "new")]) == 0
    assert launched == [tmp_path / "r", tmp_path / "new"]


def test_runs_without_a_name_are_numbered(
    launched: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for taken in ("dense", "dense-2"):
        (tmp_path / "runs" / taken).mkdir(parents=True)
        (tmp_path / "runs" / taken / "run.json").write_text("{}")
    for words in ([], ["--force"]):
        assert main(["run", "dense", *words]) == 0
    assert [folder.name for folder in launched] == ["dense-3", "dense"]
