"""A page as text for a terminal: the same sections as the HTML page, with numbers in place of pictures."""

from __future__ import annotations

import re
import shlex
import textwrap
from collections.abc import Iterator, Sequence

from reports.page.model import COMPARED, Chart, Finding, Findings, Grid, Note, Opening, Page, Part, Section, Terms, Tile
from reports.page.text import safe_text

WIDE = 10_000
"""Width of a line that is not wrapped."""
_LEAST = 24
"""Columns that the last cell of a row gets at least, however narrow the terminal."""
_BEFORE_UNIT = re.compile(r"(?<=\d) (?=(?:[kKMGTP]i?)?(?:B|s|W|Hz|FLOP)\b|[nµm]s\b|points?\b)")
_UNBROKEN = "\N{NO-BREAK SPACE}"
_MOST_FINDINGS = 3
"""Failed checks on one screen."""


def terminal(page: Page, width: int = WIDE) -> str:
    """The page, in lines of at most `width` columns as far as words allow."""
    sections = ("\n".join(_section(section, page.path, width)) for section in page.sections if section.in_terminal)
    return _joined([*_first_screen(page, width), *sections])


def terminal_screen(page: Page, width: int = WIDE) -> str:
    """What one screen holds of the page: verdict, numbers, what went wrong, and how to see the rest."""
    entries = [
        entry
        for section in page.sections
        for part in section.parts
        if isinstance(part, Findings)
        for entry in part.entries
    ]
    failed = [entry for entry in entries if not entry.passed]
    lines = [line for entry in failed[:_MOST_FINDINGS] for line in _finding(entry, width)]
    passed = len(entries) - len(failed)
    more = len(failed) - _MOST_FINDINGS
    rest = [f"{more} more {'finding' if more == 1 else 'findings'}"] if more > 0 else []
    rest += [f"{passed} {'check' if passed == 1 else 'checks'} passed"] if passed else []
    if rest:
        lines.append(f"  {', '.join(rest)}")
    blocks = [*_first_screen(page, width), "\n".join(["Findings", *lines]) if lines else "", _what_else(page, width)]
    return _joined(blocks)


def _what_else(page: Page, width: int) -> str:
    titles = [
        section.title for section in page.sections if section.in_terminal and section.parts and section.id != "findings"
    ]
    return _wrapped(f"{', '.join(titles)}", width, "--full shows also: ", "  ") if titles else ""


def _joined(blocks: Sequence[str]) -> str:
    return "\n\n".join(block for block in blocks if block)


def _first_screen(page: Page, width: int) -> list[str]:
    return [
        _wrapped(page.preface, width),
        "\n".join(_wrapped(warning, width, "! ") for warning in page.warnings),
        "\n".join(_wrapped(sentence, width) for sentence in (*page.verdict, *page.following)),
        "\n".join(_tiles(page.tiles, width)),
        "\n".join(_remedies(page.opening, width)),
        "\n".join(_wrapped(f"{what}: {why}", width, "withheld: ", "  ") for what, why in page.withheld_causes),
    ]


def _wrapped(text: str, width: int, first: str = "", rest: str | None = None) -> str:
    """Text behind `first`; further lines are indented as far, or begin with `rest`. A number stays with its unit."""
    if not text:
        return ""
    filled = textwrap.fill(
        _BEFORE_UNIT.sub(_UNBROKEN, safe_text(text)),
        max(width, len(first) + _LEAST),
        initial_indent=first,
        subsequent_indent=" " * len(first) if rest is None else rest,
        break_long_words=False,
        break_on_hyphens=False,
    )
    return filled.replace(_UNBROKEN, " ")


def _tiles(tiles: Sequence[Tile], width: int) -> Iterator[str]:
    longest = max([22, *(len(safe_text(tile.title)) for tile in tiles)])
    for tile in tiles:
        note = tile.note if tile.id == "mfu" else ""
        beside = ", ".join(text for text in (tile.theory, tile.gap, note) if text)
        head = f"{safe_text(tile.title):<{longest}} {safe_text(tile.value):>9}"
        yield _wrapped(beside, width, f"{head}  ") if beside else head


def _remedies(opening: Opening, width: int) -> Iterator[str]:
    if opening.remedies:
        yield "What to do first"
    for at, each in enumerate(opening.remedies, 1):
        hours = f"{each.device_hours} GPU-hours per day" if each.device_hours else ""
        worth = ", ".join(text for text in (f"{each.saves} per step", each.share, hours) if text)
        yield _wrapped(f"{each.kind}: {each.culprit or each.title} ({worth})", width, f"  {at}. ")
        if each.todo:
            yield _wrapped(each.todo, width, "     → ")


def _section(section: Section, path: str, width: int) -> Iterator[str]:
    blocks = [lines for part in section.parts if (lines := list(_part(part, path, width)))]
    if not blocks:
        return
    yield section.title
    if section.lead and any(isinstance(part, Grid | Terms) for part in section.parts):
        yield _wrapped(section.lead, width, "  ")
    for lines in blocks:
        yield from lines


def _part(part: Part, path: str, width: int) -> Iterator[str]:
    if isinstance(part, Grid):
        yield from grid_lines(part, path, width)
    elif isinstance(part, Chart):
        if part.numbers is not None:
            yield from grid_lines(part.numbers, path, width)
        if part.sketch is not None:
            yield part.sketch(width if width != WIDE else 100)
    elif isinstance(part, Terms):
        yield from _terms(part, width)
    elif isinstance(part, Findings):
        yield from (line for entry in part.entries for line in _finding(entry, width))
    elif isinstance(part, Note):
        yield _wrapped(part.text, width, "  ")


def _finding(finding: Finding, width: int) -> Iterator[str]:
    worth = f" (worth {finding.worth})" if finding.worth else ""
    text = f"{finding.title}{worth}: {finding.evidence}" if finding.evidence else f"{finding.title}{worth}"
    yield _wrapped(text, width, "  [ok] " if finding.passed else "  [!!] ")
    if finding.action and not finding.passed:
        yield _wrapped(finding.action, width, "       → ")
    if finding.command:
        yield f"       see {safe_text(finding.command)}"


def _terms(terms: Terms, width: int) -> Iterator[str]:
    if terms.title:
        yield f"  {safe_text(terms.title)}"
    names = [safe_text(term) for term, _ in terms.entries]
    longest = min(44, max(map(len, names)))
    for name, (_, text) in zip(names, terms.entries, strict=True):
        yield _wrapped(text, width, f"    {name:<{longest}}  ")


def grid_lines(grid: Grid, path: str = "", width: int = WIDE) -> Iterator[str]:
    """A title, columns that line up, what was cut, and the note; nothing of a table that is not for a terminal."""
    if not grid.few:
        return
    rows = [[safe_text(cell) for cell in row] for row in (grid.columns, *grid.rows[: grid.few])]
    widths = [max(len(row[i]) for row in rows) for i in range(len(grid.columns))]
    yield f"  {safe_text(grid.title)}"
    for row in rows:
        yield _row(row, widths, grid.numeric, width)
    hidden = max(grid.num_rows, len(grid.rows)) - (len(rows) - 1)
    if hidden:
        yield _wrapped(f"… {hidden:,} more: {_command(grid, path)}", width, "    ")
    if grid.note:
        yield _wrapped(grid.note, width, "    ")


def _row(row: Sequence[str], widths: Sequence[int], numeric: frozenset[int], width: int) -> str:
    """Cells in columns; text of the last column is wrapped below itself."""
    cells = [
        cell.rjust(size) if i in numeric else cell.ljust(size)
        for i, (cell, size) in enumerate(zip(row, widths, strict=True))
    ]
    line = "    " + "  ".join(cells).rstrip()
    last = len(row) - 1
    if len(line) <= width or last in numeric:
        return line
    return _wrapped(row[last], width, "    " + "".join(f"{cell}  " for cell in cells[:last])) or line


def _command(grid: Grid, path: str) -> str:
    what = shlex.quote(safe_text(path)) if path else "PATH"
    if grid.all_rows == COMPARED:
        return f"traceanalyzer compare … --json {COMPARED}"
    if grid.all_rows == "review.json":
        return f"traceanalyzer analyze {what} --json review.json"
    return f"traceanalyzer table {what} {grid.all_rows}"
