"""A page as Markdown, for a pull request: the verdict, short tables in the open, long ones folded."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Sequence

from reports.page.model import Chart, Findings, Grid, Note, Opening, Page, Part, Section, Terms
from reports.page.text import safe_text
from traceanalyzer.review.words import counted

MAX_ROWS = 20
"""Rows of one table: a comment of a pull request holds 65,536 characters."""
_SPECIAL = re.compile(r"([\\`*\[\]|~#@<>]|(?<!\w)_|_(?!\w))")


def markdown(page: Page) -> str:
    """The page; names cannot break out of their cell, mention people or close a fold."""
    blocks = [
        f"### {escaped(page.title)}",
        *(f"> ⚠ {escaped(warning)}" for warning in page.warnings),
        "\n".join(
            f"{_strong(sentence) if at == 0 else escaped(sentence)}  "
            for at, sentence in enumerate((*page.verdict, *page.following))
        ),
        *_tiles(page),
        *_remedies(page.opening),
        *(block for section in page.sections for block in _section(section)),
        *(f"*withheld: {escaped(what)}: {escaped(why)}*" for what, why in dict.fromkeys(page.withheld_causes)),
        f"<sub>{escaped(page.footer)}</sub>" if page.footer else "",
    ]
    return "\n\n".join(block for block in blocks if block) + "\n"


def gate_table(rows: Sequence[tuple[str, str, str]]) -> str:
    """What came of a gate: (mark and status, name, text) of each limit."""
    return f"#### Gate\n\n{_table(('', 'limit', 'found'), rows, frozenset())}"


def escaped(text: str) -> str:
    """Text that Markdown shows as it is, on one line."""
    return _SPECIAL.sub(lambda match: f"&#{ord(match[0])};", html.unescape(safe_text(text, 300)).replace("&", "&amp;"))


def _strong(text: str) -> str:
    return f"**{escaped(text)}**"


def _tiles(page: Page) -> Iterator[str]:
    rows = [(tile.title, tile.value, tile.theory, tile.gap) for tile in page.tiles]
    if rows:
        yield _table(("", "value", "", ""), rows, frozenset())


def _remedies(opening: Opening) -> Iterator[str]:
    rows = [(r.kind, r.culprit or r.title, r.saves, r.share, r.device_hours, r.todo) for r in opening.remedies]
    if rows:
        yield "#### What to do first"
        columns = ("class", "culprit or change", "saves per step", "of the step", "GPU-hours per day", "how")
        shown = [at for at in range(len(columns)) if any(row[at] for row in rows)]
        yield _table(
            [columns[at] for at in shown],
            [[row[at] for at in shown] for row in rows],
            frozenset(place for place, at in enumerate(shown) if at in (2, 3, 4)),
        )


def _section(section: Section) -> Iterator[str]:
    blocks = [block for part in section.parts for block in _part(part)]
    if blocks:
        yield f"#### {escaped(section.title)}"
        if section.lead:
            yield escaped(section.lead)
        yield from blocks


def _part(part: Part) -> Iterator[str]:
    if isinstance(part, Grid):
        yield _grid(part)
    elif isinstance(part, Chart):
        if part.numbers is not None:
            yield _grid(part.numbers)
    elif isinstance(part, Terms):
        yield "\n".join(f"- {escaped(term)}: {escaped(text)}" for term, text in part.entries)
    elif isinstance(part, Note):
        yield escaped(part.text)
    elif isinstance(part, Findings):
        yield from _findings(part)


def _findings(part: Findings) -> Iterator[str]:
    failed = [entry for entry in part.entries if not entry.passed]
    if failed:
        yield "\n".join(
            f"- {_strong(entry.title)} {escaped(entry.worth)}: {escaped(entry.evidence)}" for entry in failed
        )
    passed = len(part.entries) - len(failed)
    if passed:
        yield f"{counted(passed, 'check')} passed."


def _grid(grid: Grid) -> str:
    table = _table(grid.columns, grid.rows[:MAX_ROWS], grid.numeric)
    hidden = max(grid.num_rows, len(grid.rows)) - min(len(grid.rows), MAX_ROWS)
    more = f"\n\n{hidden:,} more rows are in the JSON." if hidden else ""
    body = f"{table}{more}"
    if len(grid.rows) <= grid.few and not grid.folded:
        return f"{_strong(grid.title)}\n\n{body}"
    return f"<details><summary>{escaped(grid.title)}</summary>\n\n{body}\n\n</details>"


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]], numeric: frozenset[int]) -> str:
    head = f"| {' | '.join(escaped(name) or ' ' for name in columns)} |"
    rule = f"|{'|'.join('---:' if at in numeric else '---' for at in range(len(columns)))}|"
    return "\n".join([head, rule, *(f"| {' | '.join(escaped(cell) for cell in row)} |" for row in rows)])
