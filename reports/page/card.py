"""The first screen as one SVG picture: identity, verdict, tiles, what to do first and the waterfall, for slides and chats."""

from __future__ import annotations

import html
import textwrap
from collections.abc import Iterator

from reports.page.model import Bar, Page, Remedy, Tile
from reports.page.text import safe_text

WIDTH = 1200
_PAD = 32
_INNER = WIDTH - 2 * _PAD
_FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
_INK, _SOFT, _LINE, _PANEL = "#161b22", "#55606e", "#d9dfe6", "#f5f7f9"
_STATUS = {"good": "#11704d", "bad": "#b3402f"}
_KIND = {"fault": "#b3402f", "change": "#1f5fa8"}
_LETTER = 0.54
"""Width of a letter in em, on the safe side for common fonts."""
_MAX_TILES = 6
_BAR, _BAR_STEP = 18, 26


class _Sheet:
    """Lines of SVG, and how far down they reach."""

    def __init__(self) -> None:
        self.parts: list[str] = []

    def text(
        self,
        x: float,
        y: float,
        words: str,
        size: float = 14,
        *,
        color: str = _INK,
        bold: bool = False,
        end: bool = False,
    ) -> None:
        """One line with its baseline at `y`."""
        weight = ' font-weight="600"' if bold else ""
        anchor = ' text-anchor="end"' if end else ""
        shown = html.escape(safe_text(words), quote=True)
        self.parts.append(
            f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size:g}" fill="{color}"{weight}{anchor}>{shown}</text>'
        )

    def box(self, x: float, y: float, width: float, height: float, color: str, line: str = "none") -> None:
        """A filled rectangle."""
        self.parts.append(
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(width, 1):.1f}" height="{height:.1f}" fill="{color}" stroke="{line}"/>'
        )

    def lines(self, x: float, y: float, words: str, width: float, size: float = 14, **look: bool | str) -> float:
        """Wrapped text; the baseline of the line after it."""
        for line in textwrap.wrap(safe_text(words), max(12, int(width / (_LETTER * size)))):
            self.text(x, y, line, size, **look)  # type: ignore[arg-type] - options of `text`
            y += 1.36 * size
        return y


def card(page: Page) -> str:
    """The picture, as SVG text in light colours."""
    sheet, y = _Sheet(), 44.0
    sheet.text(_PAD, y, page.title, 18, bold=True)
    y = sheet.lines(_PAD, y + 24, " · ".join(text for _, text in page.opening.identity), _INNER, 13, color=_SOFT) + 6
    for warning in page.warnings:
        y = sheet.lines(_PAD, y, f"! {warning}", _INNER, 13, color="#8a5a0b")
    y += 8
    for sentence in page.verdict[:2]:
        y = sheet.lines(_PAD, y + 4, sentence, _INNER, 20)
    y = _tiles(sheet, y, page.tiles[:_MAX_TILES])
    half = _INNER / 2 - 16
    left = _remedies(sheet, y + 30, page.opening.remedies, page.opening.remedies_note, half)
    right = _waterfall(sheet, y + 30, page, _PAD + half + 32, half)
    bottom = max(left, right) + 18
    body = "\n".join(sheet.parts)
    label = html.escape(safe_text(" ".join(page.verdict[:2])), quote=True)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {bottom:.0f}" width="{WIDTH}" height="{bottom:.0f}" '
        f'font-family="{_FONT}" role="img" aria-label="{label}">\n'
        f'<rect width="{WIDTH}" height="{bottom:.0f}" fill="#ffffff"/>\n{body}\n</svg>\n'
    )


def _tiles(sheet: _Sheet, y: float, tiles: tuple[Tile, ...]) -> float:
    if not tiles:
        return y
    width = (_INNER - 12 * (len(tiles) - 1)) / len(tiles)
    top, lowest = y, y
    notes = [list(_beside(tile, width)) for tile in tiles]
    height = 66 + 17 * max(map(len, notes))
    for at, (tile, lines) in enumerate(zip(tiles, notes, strict=True)):
        x = _PAD + at * (width + 12)
        sheet.box(x, top, width, height, _PANEL, _LINE)
        sheet.box(x, top, width, 3, _STATUS.get(tile.status, _LINE))
        sheet.text(x + 12, top + 22, tile.title, 12.5, color=_SOFT)
        sheet.text(x + 12, top + 49, tile.value, 23)
        for number, (line, color) in enumerate(lines):
            sheet.text(x + 12, top + 69 + 17 * number, line, 12.5, color=color)
        lowest = top + height
    return lowest


def _beside(tile: Tile, width: float) -> Iterator[tuple[str, str]]:
    for text, color in ((tile.theory, _INK), (tile.gap, _STATUS.get(tile.status, _INK))):
        yield from ((line, color) for line in textwrap.wrap(text, max(10, int((width - 20) / (_LETTER * 12.5)))))


def _remedies(sheet: _Sheet, y: float, remedies: tuple[Remedy, ...], note: str, width: float) -> float:
    if not remedies and not note:
        return y
    sheet.text(_PAD, y, "What to do first", 15, bold=True)
    y += 24
    for each in remedies:
        sheet.box(_PAD, y - 15, width, 1, _LINE)
        sheet.text(_PAD, y + 4, each.kind.upper(), 11.5, color=_KIND[each.kind], bold=True)
        sheet.text(_PAD + width, y + 4, f"{each.saves} per step", 15, bold=True, end=True)
        shares = [f"{each.share} of the step" if each.share else ""]
        shares.append(f"{each.device_hours} GPU-hours per day" if each.device_hours else "")
        sheet.text(_PAD + width, y + 22, " · ".join(filter(None, shares)), 12.5, color=_SOFT, end=True)
        beside = _LETTER * 12.5 * len(" · ".join(filter(None, shares)))
        y = sheet.lines(_PAD, y + 22, each.culprit or each.title, 0.86 * (width - beside - 16), 14, bold=True)
        y = sheet.lines(_PAD, max(y, y + 2), each.what, width, 13) if each.what else y
        y = sheet.lines(_PAD, y, f"→ {each.todo}", width, 12.5, color=_SOFT) + 12 if each.todo else y + 12
    return sheet.lines(_PAD, y, note, width, 12, color=_SOFT) if note else y


def _waterfall(sheet: _Sheet, y: float, page: Page, x: float, width: float) -> float:
    opening = page.opening
    if not opening.bars or opening.waterfall is None:
        return y
    sheet.text(x, y, opening.waterfall.title, 15, bold=True)
    named = min(200.0, _LETTER * 12.5 * max(len(bar.name) for bar in opening.bars) + 8)
    room = width - named - 118
    for at, bar in enumerate(opening.bars):
        _bar(sheet, x, y + 16 + _BAR_STEP * at, bar, named, room)
    bottom = y + 30 + _BAR_STEP * len(opening.bars)
    return (
        sheet.lines(x, bottom, opening.waterfall.caption, width, 12, color=_SOFT)
        if opening.waterfall.caption
        else bottom
    )


def _bar(sheet: _Sheet, x: float, y: float, bar: Bar, named: float, room: float) -> None:
    sheet.text(x + named - 8, y + 13, textwrap.shorten(bar.name, 30, placeholder="…"), 12, color=_SOFT, end=True)
    sheet.box(x + named + room * bar.start, y, room * (bar.end - bar.start), _BAR, bar.color)
    sheet.text(x + named + room * bar.end + 5, y + 13, bar.text, 12, color=_SOFT)
