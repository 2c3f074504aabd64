"""What a page is made of, as plain data. The same page is drawn as HTML (`html`) and as a terminal's text (`terminal`).

Texts may hold anything that a trace holds; the renderers make them safe.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

COMPARED = "comparison.json"
"""Where the whole lists of a comparison are."""


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
    num_rows: int = 0
    """Rows of the whole list, if `rows` is cut."""
    all_rows: str = "review.json"
    """Where the whole list is: `review.json`, `comparison.json`, or the name of a table."""
    csv: str = ""
    """Name of the download that holds the whole table; empty: none."""
    folded: bool = False
    half: bool = False
    few: int = 6
    """Rows that a terminal shows; 0: the table is not for a terminal."""
    keys: tuple[tuple[float | None, ...], ...] = ()
    """The numbers behind the cells, row by row: what sorting compares and the CSV of the shown table holds."""
    units: tuple[str, ...] = ()
    """Unit of the keys of each column."""
    kind: Literal["grid"] = "grid"


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """A picture, drawn only if a renderer asks for it."""

    id: str
    draw: Callable[[], Any]
    """Makes the Bokeh figure. It imports the drawing library, which takes seconds."""
    label: str
    """What the picture shows, for readers who cannot see it."""
    title: str = ""
    caption: str = ""
    term: str = ""
    """What of the glossary the picture is about, where its title is not a term itself."""
    legend: tuple[tuple[str, str], ...] = ()
    """(word, colour) in drawing order."""
    half: bool = False
    """Half of the page's width is enough."""
    third: bool = False
    """A third of it is."""
    numbers: Grid | None = None
    """The numbers behind the picture: what a terminal shows in its place."""
    sketch: Callable[[int], str] | None = None
    """The picture in letters, for a terminal of the given width."""
    kind: Literal["chart"] = "chart"


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
    kind: Literal["note"] = "note"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One finding with the window of time that it is about, in ms on the timeline's axis."""

    id: str
    title: str
    passed: bool
    worth: str
    evidence: str
    action: str
    place: str
    rank: int | None = None
    start_ms: float | None
    end_ms: float | None
    command: str = ""
    """Writes the moment for a trace viewer; empty: it has none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """What was checked: failed first, worthiest first."""

    entries: tuple[Finding, ...]
    kind: Literal["findings"] = "findings"


@dataclass(frozen=True, slots=True, kw_only=True)
class TimelineContent:
    """What a timeline draws."""

    charts: tuple[Chart, ...]
    """Strip, busy map and lanes, on one axis."""
    legend: tuple[tuple[str, str], ...]
    steps: tuple[str, ...]
    """Names of the steps that a reader may go to."""
    shown: int
    groups: tuple[str, ...]
    """Names of the views: which ranks have lanes."""
    caption: str
    notes: str
    facts: dict[str, Any]
    """What the packed data mean, as plain data for the page's script."""
    data: str
    bins: str
    """Packed busy shares; empty if the data hold every kernel."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeline:
    """Lanes of ranks over time, with an overview above them; the page's script draws them from packed data."""

    id: str
    make: Callable[[], TimelineContent]
    """Lays it out, the same content every time. A terminal never asks for it."""
    kind: Literal["timeline"] = "timeline"


Part = Chart | Grid | Terms | Note | Findings | Timeline


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A titled part of the page. Without parts it is one line saying why (`absent`)."""

    id: str
    title: str
    parts: tuple[Part, ...]
    lead: str = ""
    """What to see here, in one sentence."""
    absent: str = ""
    short: str = ""
    """The title in the contents bar, where all titles stand side by side."""
    in_terminal: bool = True
    withheld: tuple[tuple[str, str], ...] = ()
    """Figures of this subject that are not given: (names, reason)."""
    folded: bool = False
    """To look up, not to read: only the heading and the lead stand open."""


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
class Remedy:
    """One of the actions that save most: a fault to repair, or a change to make."""

    finding: str
    """Id of the finding that it follows from."""
    kind: Literal["fault", "change"]
    title: str
    what: str
    """What is the matter, or what to change to, as a sentence; empty if the culprit says it all."""
    todo: str
    culprit: str
    """Who or what, in words; empty if nobody is named."""
    saves: str
    """Per step."""
    share: str
    """Of the step."""
    device_hours: str
    """GPU-hours per day at the job's size; empty if that is not known."""
    start_ms: float | None = None
    end_ms: float | None = None
    """Where it shows, on the timeline's axis."""
    rank: int | None = None
    command: str = ""
    """Writes the moment for a trace viewer; empty: it has none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """A bar of the waterfall, its ends as shares of the longest."""

    name: str
    start: float
    end: float
    color: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """What the first screen has beside verdict and tiles: who, what to do, and where the time went."""

    identity: tuple[tuple[str, str], ...] = ()
    """Facts that tell this run from others: (name, text)."""
    remedies: tuple[Remedy, ...] = ()
    remedies_note: str = ""
    """What the savings are of, or why there is none."""
    waterfall: Chart | None = None
    answers: Grid | None = None
    """In place of remedies: what a lone rank answers, and which ranks would answer the rest."""
    bars: tuple[Bar, ...] = ()
    """The waterfall's own, for renderers that draw without a browser."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Everything that a reader sees."""

    title: str
    subject: str
    """What the page is about, in one line."""
    path: str = ""
    """What was analysed, for commands that a reader may run."""
    preface: str = ""
    """Whether the capture can be trusted, in one sentence."""
    warnings: tuple[str, ...] = ()
    verdict: tuple[str, ...]
    following: tuple[str, ...] = ()
    """Sentences on which ranks to profile next; they end the verdict."""
    tiles: tuple[Tile, ...] = ()
    opening: Opening = Opening()
    sections: tuple[Section, ...]
    withheld_causes: tuple[tuple[str, str], ...] = ()
    """What is not known, one entry per cause: (what, why and what would unlock it)."""
    footer: str = ""
