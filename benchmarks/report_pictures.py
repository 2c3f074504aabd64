"""Pictures of the sections of a report, for docs/report.md.

traceanalyzer report RUN -o report.html
python benchmarks/report_pictures.py report.html docs/images
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

SECTIONS = {
    "timeline-section": "report-timeline.png",
    "bubble": "report-bubble.png",
    "owners": "report-owners.png",
    "findings": "report-findings.png",
}
WIDTH, MOST_HEIGHT = 1000, 700


def main(report: str, folder: str) -> None:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": WIDTH, "height": MOST_HEIGHT})
        page.goto(Path(report).absolute().as_uri())
        page.wait_for_timeout(4000)
        print("sections:", page.evaluate("[...document.querySelectorAll('section[id]')].map(s => s.id)"))
        page.screenshot(path=str(Path(folder) / "report-opening.png"))
        for section, name in SECTIONS.items():
            box = page.locator(f"#{section}").first
            if not box.count():
                continue
            box.evaluate("section => section.scrollIntoView({block: 'start'})")
            page.wait_for_timeout(1500)
            place = box.bounding_box()
            if place is None:
                continue
            clip = {
                "x": place["x"],
                "y": place["y"],
                "width": place["width"],
                "height": min(place["height"], MOST_HEIGHT),
            }
            page.screenshot(path=str(Path(folder) / name), clip=clip, full_page=False)
        browser.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
