"""Pictures of help, verdict and an error as an 80-column terminal shows them, to be looked at.

python benchmarks/terminal_pictures.py TRACES FOLDER
"""

from __future__ import annotations

import fcntl
import html
import os
import pty
import re
import shutil
import struct
import subprocess
import sys
import termios
from pathlib import Path

from playwright.sync_api import sync_playwright

COLUMNS, ROWS = 80, 50
_STYLES = {
    "1": "font-weight:bold",
    "2": "opacity:.6",
    "31": "color:#d33",
    "32": "color:#292",
    "33": "color:#a60",
    "36": "color:#077",
}


def on_terminal(words: list[str]) -> str:
    """What a command writes to a terminal of `COLUMNS`."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    environment = {**os.environ, "TERM": "xterm-256color"}
    environment.pop("COLUMNS", None)
    process = subprocess.Popen(
        [sys.executable, "-m", "traceanalyzer", *words], stdout=theirs, stderr=theirs, env=environment
    )
    os.close(theirs)
    written = b""
    while True:
        try:
            piece = os.read(ours, 1 << 16)
        except OSError:
            break
        if not piece:
            break
        written += piece
    process.wait()
    return written.decode("utf-8", "replace").replace("\r\n", "\n")


def as_html(text: str) -> str:
    """Lines as a terminal leaves them: after a carriage return the line begins again."""
    lines = [re.sub(r"\x1b\[[0-9]*K", "", line.rpartition("\r")[2]) for line in text.split("\n")]
    body = html.escape("\n".join(lines), quote=False)
    body = re.sub(r"\x1b\[([0-9;]*)m", _span, body)
    return f"<pre style='font:14px DejaVu Sans Mono,monospace;width:{COLUMNS}ch;border:1px solid #999;margin:0'>{body}</pre>"


def _span(found: re.Match[str]) -> str:
    styles = [_STYLES[code] for code in found[1].split(";") if code in _STYLES]
    return f"</span><span style='{';'.join(styles)}'>"


def main(traces: str, folder: str) -> None:
    shown = {
        "help": ["--help"],
        "analyze-help": ["analyze", "--help"],
        "verdict": ["analyze", traces],
        "error": ["analyze", "/no/such/place"],
        "usage": ["analyse", traces],
    }
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 720, "height": 400})
        for name, words in shown.items():
            text = on_terminal(words)
            page.set_content(as_html(text))
            page.screenshot(path=str(Path(folder) / f"{name}.png"), full_page=True)
            longest = max(
                len(re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", line.rpartition("\r")[2])) for line in text.split("\n")
            )
            print(f"{name}: {text.count(chr(10))} lines, longest {longest} columns")
        browser.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
