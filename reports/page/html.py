"""A page as one self-contained HTML text: template, styles, scripts and charts put together."""

from __future__ import annotations

import re
from collections.abc import Mapping

import polars as pl
from markupsafe import Markup, escape

from reports.page.downloads import packed, script_json
from reports.page.embedding import bokeh_script, embedded, own_file, policy, template
from reports.page.model import Page, Timeline
from reports.page.text import safe_text

_NUMBER_IN_PROSE = re.compile(r"(?<![\w.])[−+-]?\d(?:[\d,.]*\d)?(?:\s?(?:%|×|ns|µs|ms|s|points|MFU))(?!\w)")


def html(page: Page, name: str, record: object, tables: Mapping[str, pl.DataFrame] | None = None) -> str:
    """The whole page. Inside are `record`, which can be downloaded as `name`.json, and `tables`, as CSV."""
    divs, drawing = embedded(page.sections)
    timed = any(isinstance(part, Timeline) for section in page.sections for part in section.parts)
    own = [own_file("page.js"), *([own_file("timeline.js")] if timed else [])]
    scripts = [own_file("theme.js"), *([bokeh_script(), drawing] if divs else []), *own]
    return template("page.html.jinja").render(
        policy=Markup(policy(scripts)),  # noqa: S704 - made of hashes
        css=Markup(own_file("page.css")),  # noqa: S704 - our own file
        scripts=[Markup(script) for script in scripts],  # noqa: S704 - no data in them but escaped JSON
        page=page,
        verdict=[emphasised(sentence) for sentence in page.verdict],
        divs=divs,
        json=lambda facts: Markup(script_json(facts)),  # noqa: S704 - inert by construction
        plain=Markup,
        name=name,
        record=Markup(script_json(record)),  # noqa: S704 - inert by construction
        csv={table: Markup(packed(frame)) for table, frame in (tables or {}).items() if not frame.is_empty()},  # noqa: S704
    )


def emphasised(sentence: str) -> Markup:
    """A sentence as HTML with its measured numbers set off; everything else is escaped."""
    text, parts, last = safe_text(sentence), list[Markup](), 0
    for match in _NUMBER_IN_PROSE.finditer(text):
        parts += [escape(text[last : match.start()]), Markup("<b>{}</b>").format(match[0])]
        last = match.end()
    return Markup("").join([*parts, escape(text[last:])])
