"""Pictures of reports for the documentation: `PYTHONPATH=tests/support python benchmarks/gallery.py RUNS [FOLDER]`.

RUNS holds runs as `make demo` leaves them (pipeline, experts, dense); FOLDER is docs/images unless given. `make gallery` runs the
demo first. Every picture is at most a window high: a longer section is cut there.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from browser import QUIET_ARGUMENTS, opened
from playwright.sync_api import Browser, sync_playwright

FIRST_SCREEN = "body"
PICTURES = {
    "pipeline": {
        "report.png": FIRST_SCREEN,
        "report-timeline.png": "#timeline-section",
        "report-bubble.png": "#bubble",
        "report-owners.png": "#owners",
    },
    "experts": {"report-experts-timeline.png": "#timeline-section", "report-experts.png": "#all-to-all"},
    "dense": {"report-mfu.png": FIRST_SCREEN},
}
"""Run to picture to the part of its page."""
SIZE = {"width": 1360, "height": 900}


def take(browser: Browser, page: Path, pictures: dict[str, str], folder: Path) -> None:
    """Take the pictures of one page; a part that the page lacks is an error."""
    seen = opened(browser, page, viewport=SIZE).page
    for name, part in pictures.items():
        place = seen.locator(part).first
        if not place.count():
            raise SystemExit(f"{page.stem} has no {part}")
        place.evaluate("part => window.scrollTo(0, part.getBoundingClientRect().top + window.scrollY - 70)")
        seen.wait_for_timeout(1500)  # charts are drawn when they come into view
        box = place.bounding_box() or {"x": 0, "y": 0, "width": 1, "height": 1}
        top = max(box["y"], 0)
        clip = {**box, "y": top, "height": min(box["y"] + box["height"], SIZE["height"]) - top}
        seen.screenshot(path=folder / name, clip=clip)
    seen.context.close()


def main() -> None:
    """Draw every run that is there."""
    runs, folder = Path(sys.argv[1]), Path(sys.argv[2] if len(sys.argv) > 2 else "docs/images")
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as name, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=list(QUIET_ARGUMENTS))
        for run in (runs / each for each in PICTURES if (runs / each).is_dir()):
            page = Path(name) / f"{run.name}.html"
            command = [sys.executable, "-m", "traceanalyzer", "report", str(run), "-o", str(page)]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            take(browser, page, PICTURES[run.name], folder)


if __name__ == "__main__":
    main()
