"""Height, size, first paint and response of reports: `PYTHONPATH=tests/support python benchmarks/page_interaction.py REPORT.html ...`.

Every page is opened three times from disk in headless Chromium, 1440 × 900; figures are medians. A response is from the event to the
frame after the next: by then the browser has drawn what the event changed.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from statistics import median

from browser import QUIET_ARGUMENTS, until
from playwright.sync_api import Browser, Page, sync_playwright

_ROUNDS = 3
_ACTIONS = {
    "zoom in": "document.querySelector('button[aria-label=\"zoom in\"]').click()",
    "zoom out": "document.querySelector('button[aria-label=\"zoom out\"]').click()",
    "next step": "[...document.querySelectorAll('[data-step]')].at(-1).click()",
    "search": "(() => { const box = document.getElementById('timeline-search'); box.value = 'gemm'; box.dispatchEvent(new Event('input')); })()",
    "finding": "document.querySelector('[data-show]')?.click()",
    "sort": "document.querySelector('main th button').click()",
    "theme": "document.getElementById('theme').click()",
}
_TIMED = """async () => {
  const begun = performance.now();
  ACTION;
  await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(done, 0))));
  return performance.now() - begun;
}"""


def opened(browser: Browser, file: Path) -> tuple[Page, float, float]:
    """The page, its first contentful paint and when the timeline was drawn; ms from the start of loading."""
    page = browser.new_page(viewport={"width": 1440, "height": 900})
    page.goto(file.as_uri())
    until(page, "document.getElementById('timeline')?.dataset.drawn === 'true'")
    drawn = page.evaluate("performance.now()")
    return page, page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime"), drawn


def measured(browser: Browser, file: Path) -> dict[str, list[float]]:
    """First paint, everything drawn, height and every response, one value per round."""
    found: dict[str, list[float]] = {}
    for _ in range(_ROUNDS):
        page, paint, drawn = opened(browser, file)
        page.wait_for_timeout(1500)  # charts below are drawn by then
        values = {"px": page.evaluate("document.documentElement.scrollHeight"), "first paint": paint, "drawn": drawn}
        for name, action in _ACTIONS.items():
            values[name] = page.evaluate(_TIMED.replace("ACTION", action))
            page.wait_for_timeout(250)
        for name, value in values.items():
            found.setdefault(name, []).append(value)
        page.close()
    return found


def main() -> None:
    """One line for each page."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=list(QUIET_ARGUMENTS))
        for file in map(Path, sys.argv[1:]):
            said = ", ".join(f"{name} {median(values):,.0f}" for name, values in measured(browser, file).items())
            print(f"{file.stem}: {file.stat().st_size / 1e6:.2f} MB, {said}", flush=True)


if __name__ == "__main__":
    main()
