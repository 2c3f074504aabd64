"""How scripts, styles and charts get into a page that loads nothing and runs nothing else.

The content security policy allows exactly the scripts written into the page, by hash: no request leaves it, and
markup that a name might smuggle in cannot run even if it were not escaped.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import re
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup, escape

from reports.charts.elements import finish
from reports.page.model import Chart
from reports.page.text import safe_text

_ASSETS = Path(__file__).parents[1] / "assets"
_CDN = re.compile(r"https://cdn\.jsdelivr\.net/[\w@./-]*")
"""Addresses that BokehJS would load mathematics and icons from; the pages use neither."""


def template(name: str) -> jinja2.Template:
    """A page's template; everything put into it is made safe to read and escaped, unless it is `Markup`."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_ASSETS),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        finalize=_safe,
    )
    environment.filters.update({"code": code})  # pyright: ignore[reportUnknownMemberType] - Jinja has none
    return environment.get_template(name)


def code(text: str) -> Markup:
    """Text as HTML with what stands between backticks set as code; everything else is escaped."""
    parts = safe_text(str(text)).split("`")
    if len(parts) % 2 == 0:  # a lone backtick is not a mark
        return escape("`".join(parts))
    return Markup("").join(
        Markup("<code>{}</code>").format(part) if at % 2 else escape(part) for at, part in enumerate(parts)
    )


def _safe(value: object) -> object:
    return value if isinstance(value, Markup) else safe_text(str(value))


def own_file(name: str) -> str:
    """The text of a style sheet or script of the folder `assets`."""
    return (_ASSETS / name).read_text(encoding="utf-8")


@functools.cache
def bokeh_script() -> str:
    """BokehJS, whole, without the addresses it would load extras from."""
    from bokeh.resources import Resources  # noqa: PLC0415 - lazy: 0.5 s

    source = "\n".join(Resources(mode="inline", components=["bokeh"]).js_raw)
    return _CDN.sub("about:blank", source).replace("\r\n", "\n").replace("</script", "<\\/script")


def embedded(charts: Sequence[Chart]) -> tuple[dict[str, Markup], str]:
    """Every chart's place in the page by its id, and the one script that draws them all (empty without charts)."""
    figures = {chart.id: chart.draw() for chart in charts}
    if not figures:
        return {}, ""
    from bokeh.embed import components  # noqa: PLC0415 - lazy: 0.5 s

    _share_document([finish(figure) for figure in figures.values()])
    with _unchecked():
        script, divs = components(figures, wrap_script=False)
    return {name: Markup(div) for name, div in divs.items()}, script  # noqa: S704 - made by Bokeh from ids alone


@contextmanager
def _unchecked() -> Generator[None]:
    """Without Bokeh's validation of the document, which walks through all models: tests see what it would tell."""
    from bokeh.settings import settings  # noqa: PLC0415 - lazy: 0.5 s

    before = settings.perform_document_validation()
    settings.perform_document_validation = False
    try:
        yield
    finally:
        settings.perform_document_validation = before


def _share_document(figures: Sequence[Any]) -> None:
    """Put all figures into one document at once: one by one, Bokeh walks through all models again for every figure."""
    from bokeh.document import Document  # noqa: PLC0415 - lazy: 0.5 s

    document = Document()
    with document.models.freeze():
        for figure in figures:
            document.add_root(figure)


def policy(scripts: Sequence[str]) -> str:
    """The content security policy that lets exactly these scripts run, and nothing be loaded."""
    hashes = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    allowed = " ".join(f"'sha256-{digest}'" for digest in hashes)
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data: blob:; "
        "font-src data:; connect-src 'none'; base-uri 'none'; form-action 'none'"
    )
