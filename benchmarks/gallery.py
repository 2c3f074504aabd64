"""Pictures of reports for the documentation: `PYTHONPATH=tests/support python benchmarks/gallery.py RUNS [FOLDER]`.

RUNS holds runs as `make demo` leaves them (pipeline, experts, dense); FOLDER is docs/images unless given. Each run's first screen
is drawn light and dark, and its timeline. `make gallery` runs the demo first.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from browser import QUIET_ARGUMENTS, opened
from playwright.sync_api import Browser, sync_playwright

RUNS = ("pipeline", "experts", "dense")
SIZE = {"width": 1360, "height": 900}


def pictures(browser: Browser, page: Path, folder: Path) -> None:
    """First screen in both themes, and the timeline where there is one."""
    for theme in ("light", "dark"):
        seen = opened(browser, page, viewport=SIZE, color_scheme=theme).page
        seen.screenshot(path=folder / f"{page.stem}-{theme}.png")
        if theme == "light" and seen.locator("#timeline-section .timeline").count():
            seen.locator("#timeline-section").screenshot(path=folder / f"{page.stem}-timeline.png")
        seen.context.close()


def main() -> None:
    """Draw every run that is there."""
    runs, folder = Path(sys.argv[1]), Path(sys.argv[2] if len(sys.argv) > 2 else "docs/images")
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as name, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=list(QUIET_ARGUMENTS))
        for run in (runs / each for each in RUNS if (runs / each).is_dir()):
            page = Path(name) / f"{run.name}.html"
            command = [sys.executable, "-m", "traceanalyzer", "report", str(run), "-o", str(page)]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            pictures(browser, page, folder)
    (folder / "pipeline-light.png").replace(folder / "report.png")  # what README.md shows


if __name__ == "__main__":
    main()
