"""README and docs, and the commands that they show."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
MANUAL = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
PAGES = [*MANUAL, ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md"]
WRITTEN = [page for page in PAGES if page.name not in ("command-line.md", "measurements.md")]
"""Pages whose commands are typed as they stand there."""


def commands_of(page: Path) -> list[str]:
    """Command lines in a page's indented blocks and tables, without comments; several on one line by themselves."""
    lines = page.read_text(encoding="utf-8").splitlines()
    blocks = [line.strip() for line in lines if re.match(r" {4,}(\$ )?traceanalyzer ", line)]
    cells = [code for line in lines if line.startswith("|") for code in re.findall(r"`(traceanalyzer [^`]*)`", line)]
    lines = [re.sub(r"\s+#.*", "", text.removeprefix("$ ")) for text in [*blocks, *cells]]
    return [part.strip() for line in lines for part in line.split("&&")]
