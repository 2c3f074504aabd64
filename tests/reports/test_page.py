from __future__ import annotations

import base64
import csv
import gzip
import hashlib
import io
import json
import math
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from report_cases import Case, base_review, expert_case, mfu_case, pipeline_case

from reports.page.compose import compose
from reports.page.downloads import csv_text
from traceanalyzer.review.result import json_schema

CASES = {"pipeline": pipeline_case, "experts": expert_case, "mfu": mfu_case}
PAYLOADS = (
    "<script>window.__pwn=1</script>",
    '"><img src=x onerror=window.__pwn=1>',
    "</script><script>window.__pwn=1</script>",
    "<!--<script>",
    "']]>;window.__pwn=1;//",
    "javascript:window.__pwn=1",
    "{{ 7*7 }}{% raw %}",
    r"$$\href{javascript:window.__pwn=1}{x}$$ \(x\) \[y\]",
    "\u202egnp.exe\u2066\u200b\x1b]52;c;x\x07\u2028",
    "=HYPERLINK(1)",
)


class Elements(HTMLParser):
    """Attributes and text of a page, as a browser would see them."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[tuple[str, dict[str, str | None]]] = []
        self.starts: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.scripts: list[tuple[dict[str, str | None], str]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.starts.append((tag, dict(attrs)))
        if tag in {"script", "style"}:
            self.open.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if self.open and self.open[-1][0] == tag:
            self.open.pop()

    def handle_data(self, data: str) -> None:
        if not self.open:
            self.text.append(data)
        elif self.open[-1][0] == "script":
            self.scripts.append((self.open[-1][1], data))

    @property
    def prose(self) -> str:
        return " ".join(" ".join(self.text).split())

    def ids(self, tag: str) -> list[str]:
        return [attrs["id"] or "" for name, attrs in self.starts if name == tag and "id" in attrs]


def everywhere(value: Any, change: Callable[[str], str]) -> Any:
    """A review with every string changed."""
    if isinstance(value, dict):
        return {key: everywhere(entry, change) for key, entry in value.items()}
    if isinstance(value, list):
        return [everywhere(entry, change) for entry in value]
    return change(value) if isinstance(value, str) else value


def hostile(case: Case) -> Case:
    """A case whose every name, sentence and text column is an attack."""
    count = iter(range(10**6))
    review = everywhere(case[0], lambda text: f"{text[:12]}{PAYLOADS[next(count) % len(PAYLOADS)]}")
    # a tile keeps its id and status, a phase its letter: what is no text of the trace
    tables = {
        name: frame.with_columns(
            pl.format("{}" + PAYLOADS[0].replace("{", "").replace("}", ""), pl.col(column)).alias(column)
            for column, dtype in frame.schema.items()
            if dtype == pl.String and column not in {"kind", "group"}
        )
        for name, frame in case[1].items()
    }
    return review, tables


NOT_YET_IN_REVIEWS = {"memory"}
"""Fields of the design that the report can draw and no analysis writes yet."""


def unknown_fields(value: Any, schema: dict[str, Any], definitions: dict[str, Any], path: str = "") -> list[str]:
    """Fields of a review that its JSON Schema does not have."""
    while "$ref" in schema:
        schema = definitions[schema["$ref"].rsplit("/", 1)[1]]
    found = list[str]()
    for option in schema.get("anyOf", ()):
        if "$ref" in option:
            found += unknown_fields(value, option, definitions, path)
    properties = schema.get("properties", {})
    if isinstance(value, dict) and properties:
        for key, entry in value.items():
            known = key in properties
            found += (
                unknown_fields(entry, properties[key], definitions, f"{path}.{key}") if known else [f"{path}.{key}"]
            )
    for entry in value if isinstance(value, list) else ():
        found += unknown_fields(entry, schema.get("items", {}), definitions, f"{path}[]")
    return found


@pytest.mark.parametrize("name", CASES)
def test_the_made_up_reviews_have_no_field_that_real_ones_lack(name: str) -> None:
    schema = json_schema()
    review = {key: value for key, value in CASES[name]()[0].items() if key not in NOT_YET_IN_REVIEWS}
    assert set(unknown_fields(review, schema, schema["$defs"])) == set()


def test_a_renamed_field_would_be_noticed() -> None:
    schema, review = json_schema(), pipeline_case()[0]
    review["bubble"]["stages"][0]["warm_up"] = review["validity"]["spread"] = 1.0
    found = set(unknown_fields(review, schema, schema["$defs"]))
    assert {".bubble.stages[].warm_up", ".validity.spread"} <= found


def test_the_page_is_in_reading_order() -> None:
    page = Elements(compose(*pipeline_case()))
    assert page.ids("section") == [
        *("findings", "timeline-section", "bubble", "all-to-all", "mfu", "roofline", "owners", "steps", "memory"),
        *("tables", "quality", "method", "provenance"),
    ]
    prose = page.prose
    order = ["Performance review", "27.4 % of the pipeline phase", "Pipeline bubble 27.4 %", "Findings", "Timeline"]
    assert [prose.index(text) for text in order] == sorted(prose.index(text) for text in order)
    assert "1F1B · 4 stages · 8 microbatches" in prose


def test_warnings_stand_before_the_verdict() -> None:
    prose = Elements(compose(*expert_case())).prose
    assert prose.index("Read this first. CPU pressure was 31 %") < prose.index("Rank 1 receives")


@pytest.mark.parametrize("name", CASES)
def test_the_three_numbers_are_always_on_the_first_screen(name: str) -> None:
    page = Elements(compose(*CASES[name]()))
    tiles = [attrs["data-tile"] for tag, attrs in page.starts if tag == "li" and "data-tile" in attrs]
    assert tiles[:3] == ["bubble", "all_to_all", "mfu"]


def test_a_missing_tile_is_withheld_with_its_reason() -> None:
    review = base_review()
    review["quality"]["withheld"] = [{"metric": "mfu", "reason": "the peak of this device is not known"}]
    assert "MFU withheld the peak of this device is not known" in Elements(compose(review, {})).prose


def test_a_review_of_nulls_shows_reasons_and_no_number() -> None:
    review = base_review()
    review["quality"]["withheld"] = [
        {"metric": metric, "reason": f"no {metric} here"}
        for metric in ("bubble", "all_to_all", "mfu", "step", "accounting")
    ]
    prose = Elements(compose(review, {})).prose
    for text in ("Withheld: no bubble here.", "Withheld: no all_to_all here.", "Withheld: no mfu here."):
        assert text in prose
    assert not re.search(r"\b(NaN|nan|None|inf|Infinity)\b", prose)


def test_an_empty_review_is_a_page() -> None:
    prose = Elements(compose({}, {})).prose
    assert "This review states no verdict." in prose
    assert "withheld the review gives no value and no reason" in prose


@pytest.mark.parametrize("name", ["actions", "ideal_actions", "bubble", "accounting", "steps"])
def test_any_table_may_be_missing_or_empty(name: str) -> None:
    review, tables = pipeline_case()
    without = {key: frame for key, frame in tables.items() if key != name}
    assert compose(review, without).endswith("</html>")
    assert compose(review, {**tables, name: tables[name].clear()}).endswith("</html>")


def paths_of(value: Any, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(found for key, entry in entries for found in paths_of(entry, (*path, key)))]


REVIEWS = [mfu_case()[0] | {key: expert_case()[0][key] for key in ("all_to_all", "stragglers", "warnings")}]
REVIEWS[0]["bubble"], REVIEWS[0]["findings"] = pipeline_case()[0]["bubble"], pipeline_case()[0]["findings"]
PATHS = [path for path in paths_of(REVIEWS[0]) if path]


@settings(deadline=None, max_examples=60)
@given(
    path=st.sampled_from(PATHS),
    value=st.sampled_from([None, math.nan, math.inf, -1, 0, "", "<b>x</b>", [], {}, [None], {"a": None}, 10**30, True]),
)
def test_no_value_of_a_review_breaks_the_page(path: tuple[str | int, ...], value: object) -> None:
    review = json.loads(json.dumps(REVIEWS[0]))
    target = review
    for key in path[:-1]:
        target = target[key]
    target[path[-1]] = value
    for slow in {"step", "mfu", "bubble"} - {path[0]}:  # their charts take long to draw, and are none of this example
        review[slow] = base_review()[slow]
    visible = compose(review, {}).split('<script type="application/json"')[0]
    assert not re.search(r"\b(NaN|nan|None|inf|Infinity)\b", Elements(visible).prose)


@pytest.mark.parametrize("name", CASES)
def test_names_from_traces_stay_text(name: str) -> None:
    html = compose(*hostile(CASES[name]()))
    for raw in ("<script>window.__pwn", "<img src=x", "<!--<script>", "\u202e", "\u200b", "\x1b"):
        assert raw not in html
    page = Elements(html)
    assert all(
        "__pwn" not in (value or "")
        for tag, attrs in page.starts
        for key, value in attrs.items()
        if key.startswith(("on", "href"))
    )
    assert "⟨U+202E⟩" in page.prose


@pytest.mark.parametrize("name", CASES)
def test_no_text_of_a_trace_is_code_or_mathematics_in_a_running_script(name: str) -> None:
    page = Elements(compose(*hostile(CASES[name]())))
    drawing = [
        text for attrs, text in page.scripts if "type" not in attrs and "docs_json" in text and len(text) < 500_000
    ]
    assert len(drawing) == 1
    assert not re.search(r"<script|<img|\$\$|\\\\\(|\\\\\[|\]\]>;window", drawing[0])
    if name != "mfu":  # only the waterfall's bars carry names
        assert "__pwn" not in drawing[0]


def test_nothing_is_loaded_from_anywhere() -> None:
    html = compose(*pipeline_case())
    loading = [
        (tag, key, value)
        for tag, attrs in Elements(html).starts
        for key, value in attrs.items()
        if key in {"src", "href", "srcset", "action", "data", "poster"} and not (value or "").startswith("#")
    ]
    assert loading == []
    assert "cdn." not in html
    assert "@import" not in html
    assert (
        not re.search(r"url\((?!['\"]?data:)", Path("reports/assets/page.css").read_text())
        if Path("reports").exists()
        else True
    )


def test_only_the_pages_own_scripts_may_run() -> None:
    page = Elements(compose(*pipeline_case()))
    policy = next(attrs["content"] or "" for tag, attrs in page.starts if tag == "meta" and "http-equiv" in attrs)
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe-inline" not in policy.split("style-src")[0]
    assert "unsafe-eval" not in policy
    for attrs, text in page.scripts:
        if "type" not in attrs:
            digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
            assert f"'sha256-{digest}'" in policy


def test_the_review_inside_is_the_review() -> None:
    review, tables = hostile(pipeline_case())
    review["bubble"]["span_share"] = math.nan
    page = Elements(compose(review, tables))
    inside = json.loads(next(text for attrs, text in page.scripts if attrs.get("id") == "review"))
    assert inside == {**review, "bubble": {**review["bubble"], "span_share": None}}


def test_tables_inside_are_the_tables() -> None:
    review, tables = expert_case()
    page = Elements(compose(review, tables))
    inside = {attrs["data-csv-name"]: text for attrs, text in page.scripts if "data-csv-name" in attrs}
    assert set(inside) == set(tables)
    routing = pl.read_csv(io.StringIO(gzip.decompress(base64.b64decode(inside["routing"])).decode()))
    assert routing["tokens"].to_list() == tables["routing"]["tokens"].to_list()
    assert routing.columns == tables["routing"].columns


@given(st.text(max_size=20))
def test_no_csv_cell_starts_a_formula_and_text_survives(name: str) -> None:
    text = csv_text(pl.DataFrame({"n": [1], "name": [name]}, schema={"n": pl.Int64, "name": pl.String}))
    _, row = list(csv.reader(io.StringIO(text, newline="")))
    assert not row[1].startswith(("=", "+", "-", "@", "\t", "\r"))
    assert row[1].removeprefix("'") == name.removeprefix("'") or row[1] == name


def test_negative_numbers_stay_numbers_in_csv() -> None:
    assert csv_text(pl.DataFrame({"offset_ns": [-5]})) == "offset_ns\n-5\n"


def test_lists_become_one_cell() -> None:
    assert csv_text(pl.DataFrame({"splits": [[1, 2], None]})) == "splits\n1 2\n\n"


def test_findings_come_worst_first_with_their_window_on_the_timelines_axis() -> None:
    page = Elements(compose(*pipeline_case()))
    shows = [attrs for tag, attrs in page.starts if tag == "button" and attrs.get("data-show") == "timeline-section"]
    # the finding is about the first forward (50 ms) and 600 ms after; step 3 began 1 650 + 1 699.5 + 2 × 20 ms before step 5, which is the median and the zero of the axis
    assert [(float(b["data-start"] or 0), float(b["data-end"] or 0)) for b in shows] == [(-3389.5, -2739.5)]
    assert "1 check passed" in page.prose


def test_long_lists_are_cut_and_counted() -> None:
    review = base_review()
    review["quality"]["defects"] = [{"code": f"c{i}", "severity": "loss"} for i in range(150)]
    review["files"] = [{"rank": i, "file": f"f{i}"} for i in range(100)]
    prose = Elements(compose(review, {})).prose
    assert "50 further defects are in review.json." in prose
    assert "36 further files are in review.json." in prose
