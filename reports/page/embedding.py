"""How scripts, styles and charts get into a page that loads nothing and runs nothing else.

The content security policy allows exactly the scripts written into the page, by hash: no request leaves it, and
markup that a name might smuggle in cannot run even if it were not escaped.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import re
from collections.abc import Sequence
from pathlib import Path

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
    figures = {chart.id: finish(chart.draw()) for chart in charts}
    if not figures:
        return {}, ""
    from bokeh.embed import components  # noqa: PLC0415 - lazy: 0.5 s

    script, divs = components(figures, wrap_script=False)
    return {name: Markup(div) for name, div in divs.items()}, script  # noqa: S704 - made by Bokeh from ids alone


def policy(scripts: Sequence[str]) -> str:
    """The content security policy that lets exactly these scripts run, and nothing be loaded."""
    hashes = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    allowed = " ".join(f"'sha256-{digest}'" for digest in hashes)
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data: blob:; "
        "font-src data:; connect-src 'none'; base-uri 'none'; form-action 'none'"
    )
