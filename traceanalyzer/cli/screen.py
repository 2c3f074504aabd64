"""The terminal that text is written to."""

from __future__ import annotations

import shutil
import sys


def screen_width() -> int | None:
    """Columns of the terminal; None if the output goes to a file or another program, whose lines are not wrapped."""
    return max(60, shutil.get_terminal_size().columns) if sys.stdout.isatty() else None
