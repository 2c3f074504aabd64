"""A page as a reader opens it: from disk, in headless Chromium, without a network."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

QUIET_ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
DRAWN = """() => [...document.querySelectorAll(".canvas")].map((place) => {
  const view = Object.values(Bokeh.index).find((v) => place.contains(v.el));
  if (!view) return 0;
  const canvas = view.export("png", false).canvas;
  const data = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
  const colors = new Set();
  for (let i = 0; i < data.length; i += 4) if (data[i + 3] > 200) colors.add((data[i] << 16) | (data[i + 1] << 8) | data[i + 2]);
  return colors.size;
})"""


@dataclass
class Opened:
    """A page with everything that went wrong or out of it."""

    page: Any
    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)


def until(page: Any, expression: str, seconds: float = 60) -> None:
    """Wait for a JavaScript expression; asked from outside, because the page's own policy forbids evaluating text."""
    last = time.monotonic() + seconds
    while not page.evaluate(expression):
        assert time.monotonic() < last, f"still not: {expression}"
        page.wait_for_timeout(20)


def opened(browser: Any, path: Path, *, ready: str | None = "html[data-ready]", **options: Any) -> Opened:
    """Open a page and wait until all is drawn; `ready` is what the page's own script sets when it is done."""
    context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
    page = context.new_page()
    page.set_default_timeout(120_000)  # a loaded machine is slow, not wrong
    found = Opened(page)
    page.on("request", lambda request: found.requests.append(request.url))
    page.on("console", lambda m: found.complaints.append(m.text) if m.type in {"error", "warning"} else None)
    page.on("pageerror", lambda error: found.complaints.append(str(error)))
    page.goto(path.as_uri())
    if ready is not None:
        page.wait_for_selector(ready, state="attached")
    until(
        page,
        "window.Bokeh && Object.keys(Bokeh.index).length > 0 && Object.values(Bokeh.index).every((view) => view.is_idle)",
    )
    return found
