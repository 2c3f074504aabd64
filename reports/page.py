"""The page: template, styles, scripts and charts put together into one self-contained HTML text.

The content security policy allows exactly the scripts written here, by hash: no request leaves the page, and
markup that a name might smuggle in cannot run even if it were not escaped.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2
import polars as pl
from markupsafe import Markup

from reports import headline
from reports.charts import finish
from reports.downloads import csv_text, packed, review_json
from reports.parts import Chart, Section
from reports.sections import all_sections, lay_out
from reports.text import at, emphasised, safe_text, texts

_HERE = Path(__file__).parent
_CDN = re.compile(r"https://cdn\.jsdelivr\.net/[\w@./-]*")
"""Addresses that BokehJS would load mathematics and icons from; the report uses neither."""


def compose(review: Mapping[str, Any], tables: Mapping[str, pl.DataFrame]) -> str:
    """The whole report as HTML text."""
    timelines = lay_out(tables)
    findings = headline.findings(review, timelines.origin_ns)
    sections = all_sections(review, tables, timelines, findings)
    divs, drawing = _embedded(sections)
    body = [*([_bokeh(), drawing] if divs else []), _own("page.js")]
    theme = _own("theme.js")
    tool = " ".join(safe_text(at(review, "tool", key) or "", 40) for key in ("name", "version")).strip()
    return _template().render(
        policy=_policy([theme, *body]),
        css=Markup(_own("page.css")),  # noqa: S704 - our own file
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


@functools.cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_HERE), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True
    )
    return environment.get_template("page.html.jinja")


def _own(name: str) -> str:
    return (_HERE / name).read_text(encoding="utf-8")


@functools.cache
def _bokeh() -> str:
    """BokehJS, whole, without the addresses it would load extras from."""
    from bokeh.resources import Resources  # noqa: PLC0415 - lazy: 0.5 s

    source = "\n".join(Resources(mode="inline", components=["bokeh"]).js_raw)
    return _CDN.sub("about:blank", source).replace("\r\n", "\n").replace("</script", "<\\/script")


def _embedded(sections: list[Section]) -> tuple[dict[str, Markup], str]:
    """Every chart's place in the page, and the one script that draws them all."""
    from bokeh.embed import components  # noqa: PLC0415 - lazy: 0.5 s

    figures = {p.id: finish(p.figure) for s in sections for p in s.parts if isinstance(p, Chart)}
    if not figures:
        return {}, ""
    script, divs = components(figures, wrap_script=False)
    return {name: Markup(div) for name, div in divs.items()}, script  # noqa: S704 - made by Bokeh from ids alone


def _policy(scripts: list[str]) -> str:
    hashes = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    allowed = " ".join(f"'sha256-{digest}'" for digest in hashes)
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data: blob:; "
        "font-src data:; connect-src 'none'; base-uri 'none'; form-action 'none'"
    )
