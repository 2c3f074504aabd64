"""Where the parts of a section stand: charts before text and tables, in rows that fill the page's width.

The page is twelve columns wide. A part asks for the columns that its text or picture needs; a row takes parts while
they fit, and what is left of it is shared out.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from reports.page.model import Chart, Findings, Grid, Part, Section, Terms, Timeline

COLUMNS = 12
FOLDED_ROWS = 12
"""Rows of a table that are shown before a reader asks for all."""
_NARROW, _HALF = 58, 92
"""Characters of a table's line that fit into four and into six columns of a wide screen."""
_GAP = 3
"""Characters between two columns of a table."""
_TALL = 16
"""Terms that are set in two columns of the whole page."""
_LONGEST = 44
"""Characters after which a cell is wrapped."""


@dataclass(frozen=True, slots=True)
class Placed:
    """A part and the columns it takes."""

    part: Part
    span: int


@dataclass(frozen=True, slots=True)
class Laid:
    """A section's parts: in the open, and what only who looks for it opens."""

    open: tuple[Placed, ...]
    folded: tuple[Grid | Terms, ...]


def laid_out(section: Section, shown_above: Collection[str] = ()) -> Laid:
    """Charts first; of tables and terms what fills the charts' last row, or one row; the rest is folded at the end.

    So a section's height does not grow with what there is to list. Parts whose ids are in `shown_above` are left out: they
    stand above already.
    """
    parts = [part for part in section.parts if not (isinstance(part, Chart | Grid) and part.id in shown_above)]
    charts: list[Part] = [part for part in parts if isinstance(part, Chart | Timeline)]
    others = [part for part in parts if not isinstance(part, Chart | Timeline)]
    if section.folded:
        return _all(charts, others)
    detail = [part for part in others if isinstance(part, Grid) and (part.folded or not part.few)]
    lists = [part for part in others if part not in detail]
    if not charts and not lists:
        lists, detail = [part for part in detail if not part.folded], [part for part in detail if part.folded]
    shown, beyond = _one_row(lists, _left(charts))
    order = {id(part): at for at, part in enumerate(others)}
    folded = sorted([*beyond, *detail], key=lambda part: order[id(part)])
    return Laid(open=tuple(_rows([*charts, *shown])), folded=tuple(folded))


def _all(charts: Sequence[Part], others: Sequence[Part]) -> Laid:
    """Everything that is not folded for itself: the section is."""
    detail = tuple(part for part in others if isinstance(part, Grid) and part.folded)
    return Laid(open=tuple(_rows([*charts, *(part for part in others if part not in detail)])), folded=detail)


def _one_row(lists: Sequence[Part], room: int) -> tuple[list[Part], list[Grid | Terms]]:
    """What fits into `room` columns, in order, and what does not; sentences and findings always stand open."""
    shown, beyond = list[Part](), list[Grid | Terms]()
    for part in lists:
        if not isinstance(part, Grid | Terms):
            shown.append(part)
        elif asked(part) <= room:
            room -= asked(part)
            shown.append(part)
        else:
            beyond.append(part)
    return shown, beyond


def _left(charts: Iterable[Part]) -> int:
    """Columns that the charts leave of their last row; a whole row if they leave none."""
    used = 0
    for chart in charts:
        used = asked(chart) if used + asked(chart) > COLUMNS else used + asked(chart)
    return COLUMNS - used if used < COLUMNS else COLUMNS


def _rows(parts: Iterable[Part]) -> Iterable[Placed]:
    row, used = list[Placed](), 0
    for part in parts:
        span = asked(part)
        if row and used + span > COLUMNS:
            yield from _filled(row)
            row, used = [], 0
        row.append(Placed(part, span))
        used += span
    yield from _filled(row)


def _filled(row: Sequence[Placed]) -> Iterable[Placed]:
    """The row with what is left of it given to its parts in turn."""
    left = COLUMNS - sum(each.span for each in row)
    for at, each in enumerate(row):
        extra = left // len(row) + (at < left % len(row))
        yield Placed(each.part, each.span + extra)


def asked(part: Part) -> int:
    """Columns that a part needs."""
    if isinstance(part, Grid):
        return _span(_table_width(part))
    if isinstance(part, Chart):
        return 4 if part.third else 6 if part.half else COLUMNS
    if isinstance(part, Terms):
        longest = max((len(text) for _, text in part.entries), default=0)
        return (4 if longest <= 28 else 6 if longest <= 90 else COLUMNS) if len(part.entries) <= _TALL else COLUMNS
    return COLUMNS if isinstance(part, Findings | Timeline) else 6


def _span(width: int) -> int:
    return 4 if width <= _NARROW else 6 if width <= _HALF else COLUMNS


def _table_width(grid: Grid) -> int:
    cells = zip(grid.columns, *grid.rows[:FOLDED_ROWS], strict=True)
    return sum(min(_LONGEST, max(map(len, column))) + _GAP for column in cells)
