"""Pages as PDF and pictures, by the Chromium that the reader has. Nothing is downloaded; no page leaves the machine."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from traceanalyzer.errors import OutputError
from traceanalyzer.output import write_result

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "msedge", "microsoft-edge")
_MAC = (
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
    "/Applications/Microsoft Edge.app/Contents/MacOS/Microsoft Edge",
)
_WIDTH = 1440
_SECONDS = 90
_DRAWN_MS = 8000
"""Virtual time in which a page draws its charts: it passes as fast as the page allows."""


def browser() -> str | None:
    """The path of a Chromium, Chrome or Edge; `TRACEANALYZER_CHROMIUM` names another. None without one."""
    asked = os.environ.get("TRACEANALYZER_CHROMIUM")
    if asked:
        return shutil.which(asked)
    found = next((path for name in NAMES if (path := shutil.which(name))), None)
    return found or next((path for path in _MAC if Path(path).exists()), None)


def write_pdf(page: str, target: Path, program: str) -> None:
    """Print an HTML page to a PDF file. Raises `OutputError` if the browser does not."""
    with tempfile.TemporaryDirectory() as folder:
        source, made = Path(folder, "page.html"), Path(folder, "page.pdf")
        source.write_text(page, encoding="utf-8")
        _run(program, folder, source, "--no-pdf-header-footer", f"--print-to-pdf={made}")
        write_result(target, _made(made, program))


def write_png(page: str, target: Path, program: str) -> None:
    """Draw an HTML page, as high as it is, to a PNG file. Raises `OutputError` if the browser does not."""
    with tempfile.TemporaryDirectory() as folder:
        source, made = Path(folder, "page.html"), Path(folder, "page.png")
        source.write_text(page, encoding="utf-8")
        size = f"--window-size={_WIDTH},900"
        found = re.search(r'data-height="(\d+)"', _run(program, folder, source, size, "--dump-dom"))
        height = min(8000, int(found[1]) if found else 900)
        size = f"--window-size={_WIDTH},{height}"
        _run(program, folder, source, size, "--hide-scrollbars", f"--screenshot={made}")
        write_result(target, _made(made, program))


def _made(made: Path, program: str) -> bytes:
    if not made.exists():
        raise OutputError(f"{program} wrote nothing", "open the HTML report and print it: its first page is the same")
    return made.read_bytes()


def _run(program: str, folder: str, source: Path, *options: str) -> str:
    """Run the browser on one page without its own profile, sandboxed unless that is impossible for root."""
    root = hasattr(os, "geteuid") and os.geteuid() == 0
    command = [
        program, "--headless=new", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-sync",
        "--disable-extensions", f"--user-data-dir={folder}/profile", f"--virtual-time-budget={_DRAWN_MS}",
        *(["--no-sandbox"] if root else []), *options, source.as_uri(),
    ]  # fmt: skip
    try:
        done = subprocess.run(command, capture_output=True, timeout=_SECONDS, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        hint = "open the HTML report and print it, or name another browser in TRACEANALYZER_CHROMIUM"
        raise OutputError(f"{program} did not draw the page: {type(error).__name__}", hint) from error
    return done.stdout.decode("utf-8", "replace")
