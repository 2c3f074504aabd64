"""Styles are the one thing that the page's policy allows inline, because Bokeh writes them: no name of a trace gets into one."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from catalogue.base import each_complete, text, trace, write

from reports import report
from traceanalyzer.analysis.assemble import analyze, read

MARK = "red;background:url(//x.example/m4rk3r)"


@pytest.mark.wide
def test_no_name_of_a_trace_reaches_a_style(tmp_path: Path) -> None:
    document = trace(0, 1)
    document["host_name"] = MARK
    each_complete(document, lambda event: event.update(name=f"{event['name']} {MARK}"))
    found = analyze(read(write(tmp_path, text(document), f"{MARK.replace('/', '_')}.json")))
    page = report(found.review, found.tables)
    assert "m4rk3r" in page, "the names are shown somewhere"
    styles = re.findall(r"<style[^>]*>(.*?)</style>", page, re.DOTALL) + re.findall(r'\sstyle="([^"]*)"', page)
    assert styles
    assert not [style for style in styles if "m4rk3r" in style]
    of_models = re.findall(r'"(?:styles|stylesheets|css_classes|css_variables)":(\{[^{}]*\}|\[[^\[\]]*\])', page)
    assert not [style for style in of_models if "m4rk3r" in style]
