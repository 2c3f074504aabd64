"""The prediction's sections put together into one self-contained HTML text, with the report's styles and policy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

from reports.page.downloads import script_json
from reports.page.embedding import bokeh_script, embedded, own_file, policy, template
from reports.page.text import emphasised
from reports.prediction.sections import inputs, sections, verdict
from traceanalyzer.theory.prediction.record import Predicted


def compose(predicted: Predicted, record: Mapping[str, Any]) -> str:
    """The whole page as HTML text."""
    parts = sections(predicted)
    divs, drawing = embedded(parts)
    scripts = [own_file("theme.js"), bokeh_script(), drawing]
    return template(
        "prediction.html.jinja"
    ).render(
        policy=policy(scripts),
        css=Markup(own_file("page.css")),  # noqa: S704 - our own file
        theme=Markup(scripts[0]),  # noqa: S704 - our own file
        body=[Markup(script) for script in scripts[1:]],  # noqa: S704 - no data in them but escaped JSON
        inputs=inputs(predicted),
        verdict=[emphasised(sentence) for sentence in verdict(predicted)],
        sections=parts,
        divs=divs,
        record=Markup(script_json(record)),  # noqa: S704 - inert by construction
    )
