"""The prediction's sections put together into one self-contained HTML text, with the report's styles and policy."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from reports.downloads import script_json
from reports.page import _bokeh, _embedded, _own, _policy
from reports.prediction import inputs, sections, verdict
from reports.text import emphasised
from traceanalyzer.theory.prediction_record import Predicted


def compose(predicted: Predicted, record: Mapping[str, Any]) -> str:
    """The whole page as HTML text."""
    parts = sections(predicted)
    divs, drawing = _embedded(parts)
    scripts = [_own("theme.js"), _bokeh(), drawing]
    return _template().render(
        policy=_policy(scripts),
        css=Markup(_own("page.css")),  # noqa: S704 - our own file
        theme=Markup(scripts[0]),  # noqa: S704 - our own file
        body=[Markup(script) for script in scripts[1:]],  # noqa: S704 - no data in them but escaped JSON
        inputs=inputs(predicted),
        verdict=[emphasised(sentence) for sentence in verdict(predicted)],
        sections=parts,
        divs=divs,
        record=Markup(script_json(record)),  # noqa: S704 - inert by construction
    )


def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
    )
    return environment.get_template("prediction.html.jinja")
