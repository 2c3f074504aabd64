"""What a report page is made of: sections of charts, grids and term lists. Plain data; the template draws it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class Button:
    """A button of a chart that shows a window of its time axis."""

    text: str
    start_ms: float
    end_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """One Bokeh figure with what HTML says around it."""

    id: str
    figure: Any
    label: str
    """What the picture shows, for readers who cannot see it."""
    title: str = ""
    caption: str = ""
    legend: tuple[tuple[str, str], ...] = ()
    """(word, colour) in drawing order."""
    buttons: tuple[Button, ...] = ()
    time_axis: str = ""
    """Name of the x range that this chart's buttons and keys move; empty: it does not zoom."""
    half: bool = False
    """Half of the page's width is enough."""
    kind: Literal["chart"] = "chart"


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """A table of ready text."""

    id: str
    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numeric: frozenset[int] = frozenset()
    """Positions of columns that are set to the right."""
    note: str = ""
    csv: str = ""
    """Name of the download that holds the whole table; empty: none."""
    folded: bool = False
    half: bool = False
    kind: Literal["grid"] = "grid"


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """Terms and what they mean."""

    entries: tuple[tuple[str, str], ...]
    title: str = ""
    half: bool = False
    kind: Literal["terms"] = "terms"


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """A sentence on its own."""

    text: str
    half: bool = False
    kind: Literal["note"] = "note"


Part = Chart | Grid | Terms | Note


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A titled part of the page. Without parts it is one line saying why (`absent`)."""

    id: str
    title: str
    lead: str = ""
    parts: tuple[Part, ...] = ()
    absent: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tile:
    """A headline number beside its theory."""

    id: str
    title: str
    value: str
    theory: str = ""
    gap: str = ""
    status: str = "neutral"
    note: str = ""
    definition: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One finding, as text, with the window of time it is about (ms on the timeline's axis)."""

    id: str
    title: str
    passed: bool
    worth: str = ""
    evidence: str = ""
    action: str = ""
    place: str = ""
    start_ms: float | None = None
    end_ms: float | None = None
