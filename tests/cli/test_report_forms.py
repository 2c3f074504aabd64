"""`report` in its other forms, and what it imports."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from msgspec import to_builtins
from report_cases import pipeline_case, review_of

from traceanalyzer.cli import main
from traceanalyzer.review import to_json


@pytest.fixture
def review(tmp_path: Path) -> Path:
    path = tmp_path / "review.json"
    path.write_bytes(to_json(review_of(to_builtins(pipeline_case()[0]))))
    return path


@pytest.mark.parametrize(
    ("name", "begins"), [("r.md", "### Performance review"), ("r.svg", "<svg "), ("r.html", "<!doctype")]
)
def test_the_files_ending_tells_the_form(review: Path, tmp_path: Path, name: str, begins: str) -> None:
    assert main(["report", str(review), "-o", str(tmp_path / name)]) == 0
    assert (tmp_path / name).read_text(encoding="utf-8").startswith(begins)


def test_a_form_names_its_own_file(review: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["report", str(review), "--format", "svg"]) == 0
    assert (tmp_path / "report.svg").exists()


def test_without_a_browser_a_picture_is_refused_and_a_print_is_explained(
    review: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TRACEANALYZER_CHROMIUM", "no-such-browser")
    assert main(["report", str(review), "-o", str(tmp_path / "r.png")]) == 2
    assert "use --format svg, which needs none" in capsys.readouterr().err
    assert main(["report", str(review), "-o", str(tmp_path / "r.md"), "--print"]) == 0
    assert "print its first page" in capsys.readouterr().err
    assert not (tmp_path / "r.pdf").exists()


@pytest.mark.wide
def test_a_report_is_drawn_without_panel_and_pandas(review: Path, tmp_path: Path) -> None:
    program = (
        "import sys; from traceanalyzer.cli import main; "
        f"code = main(['report', {str(review)!r}, '-o', {str(tmp_path / 'r.html')!r}]); "
        "sys.exit(code or 10 * ('panel' in sys.modules) + 20 * ('pandas' in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()


@pytest.mark.parametrize(("name", "hint"), [("r.pdf", "--print"), ("r.CSV", "report.html")])
def test_an_ending_of_another_kind_of_file_is_refused(
    review: Path, tmp_path: Path, name: str, hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", str(review), "-o", str(tmp_path / name)]) == 2
    assert hint in capsys.readouterr().err
    assert not (tmp_path / name).exists()
