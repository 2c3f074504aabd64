"""The page: template, styles, scripts and charts put together into one self-contained HTML text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl
from markupsafe import Markup

from reports.page.downloads import csv_text, packed, review_json
from reports.page.embedding import bokeh_script, embedded, own_file, policy, template
from reports.page.text import at, emphasised, safe_text, texts
from reports.sections import headline
from reports.sections.all import all_sections, lay_out


def compose(review: Mapping[str, Any], tables: Mapping[str, pl.DataFrame]) -> str:
    """The whole report as HTML text."""
    timelines = lay_out(tables)
    findings = headline.findings(review, timelines.origin_ns)
    sections = all_sections(review, tables, timelines, findings)
    divs, drawing = embedded(sections)
    body = [*([bokeh_script(), drawing] if divs else []), own_file("page.js")]
    theme = own_file("theme.js")
    tool = " ".join(safe_text(at(review, "tool", key) or "", 40) for key in ("name", "version")).strip()
    return template("page.html.jinja").render(
        policy=policy([theme, *body]),
        css=Markup(own_file("page.css")),  # noqa: S704 - our own file
        scripts={"theme": Markup(theme), "body": [Markup(script) for script in body]},  # noqa: S704 - no data in them but escaped JSON
        job=headline.job_line(review),
        warnings=texts(review, "warnings"),
        verdict=[emphasised(sentence) for sentence in headline.sentences(review)],
        tiles=headline.tiles(review),
        findings=findings,
        sections=sections,
        divs=divs,
        made_by=f"made by {tool}" + (f", {safe_text(at(review, 'created'), 40)}" if at(review, "created") else ""),
        review_json=Markup(review_json(review)),  # noqa: S704 - inert by construction
        csv={name: packed(csv_text(frame)) for name, frame in tables.items() if not frame.is_empty()},
    )
