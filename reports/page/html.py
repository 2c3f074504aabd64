"""A page as one self-contained HTML text: template, styles, scripts and charts put together."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial

import polars as pl
from markupsafe import Markup, escape

from reports.page.downloads import packed, packed_record, script_json
from reports.page.embedding import bokeh_script, embedded, own_file, policy, template
from reports.page.glossary import anchor, term_of
from reports.page.layout import laid_out
from reports.page.model import Chart, Page, Part, Section, Terms, Timeline
from reports.page.text import safe_text

_NUMBER_IN_PROSE = re.compile(r"(?<![\w.])[−+-]?\d(?:[\d,.]*\d)?(?:\s?(?:%|×|ns|µs|ms|s|points|MFU))(?!\w)")


def html(page: Page, name: str, record: object, tables: Mapping[str, pl.DataFrame] | None = None) -> str:
    """The whole page. Inside are `record`, which can be downloaded as `name`.json, and `tables`, as CSV."""
    divs, drawing = embedded(_charts(page))
    shown_above = {part.id for part in (page.opening.waterfall, page.opening.answers) if part}
    timed = any(isinstance(part, Timeline) for section in page.sections for part in section.parts)
    own = [own_file(file) for file in ("page.js", *(("timeline.js",) if timed else ()), "tables.js", "reading.js")]
    scripts = [own_file("theme.js"), *([bokeh_script(), drawing] if divs else []), *own]
    defined = {term for section in page.sections if section.id == "method" for term in _terms(section)}
    whole = packed_record(record)
    return template("page.html.jinja").render(
        policy=Markup(policy(scripts)),  # noqa: S704 - made of hashes
        css=Markup(own_file("page.css")),  # noqa: S704 - our own file
        scripts=[Markup(script) for script in scripts],  # noqa: S704 - no data in them but escaped JSON
        page=page,
        verdict=[emphasised(sentence) for sentence in _sentences(page)],
        divs=divs,
        layout={section.id: laid_out(section, shown_above) for section in page.sections},
        anchor=anchor,
        anchor_of=partial(_anchor_of, defined=defined),
        json=_inert,
        plain=Markup,
        name=name,
        record=Markup(whole or script_json(record)),  # noqa: S704 - inert by construction
        record_type="octet-stream" if whole else "json",
        csv={table: Markup(packed(frame)) for table, frame in (tables or {}).items() if not frame.is_empty()},  # noqa: S704
    )


def _sentences(page: Page) -> tuple[str, ...]:
    """The verdict, and what to profile next unless the answers of a lone rank tell it."""
    return page.verdict if page.opening.answers else (*page.verdict, *page.following)


def _inert(facts: object) -> Markup:
    return Markup(script_json(facts))  # noqa: S704 - inert by construction


def _charts(page: Page) -> list[Chart]:
    first = [page.opening.waterfall] if page.opening.waterfall else []
    shown_above = {chart.id for chart in first}
    parts = [chart for section in page.sections for part in section.parts for chart in _of(part)]
    return first + [part for part in parts if part.id not in shown_above]


def _of(part: Part) -> tuple[Chart, ...]:
    return part.make().charts if isinstance(part, Timeline) else (part,) if isinstance(part, Chart) else ()


def _terms(section: Section) -> list[str]:
    return [term for part in section.parts if isinstance(part, Terms) for term, _ in part.entries]


def _anchor_of(title: str, *, defined: set[str]) -> str:
    """Where the definition of a heading's term stands; empty if the page has none."""
    term = next((each for each in (title, term_of(title)) if each in defined), "")
    return anchor(term) if term else ""


def emphasised(sentence: str) -> Markup:
    """A sentence as HTML with its measured numbers set off; everything else is escaped."""
    text, parts, last = safe_text(sentence), list[Markup](), 0
    for match in _NUMBER_IN_PROSE.finditer(text):
        parts += [escape(text[last : match.start()]), Markup("<b>{}</b>").format(match[0])]
        last = match.end()
    return Markup("").join([*parts, escape(text[last:])])
