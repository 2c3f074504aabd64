from __future__ import annotations

import base64
import csv
import gzip
import hashlib
import io
import json
import math
import re
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import msgspec
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import to_builtins
from report_cases import base_review, changed, expert_case, hostile, mfu_case, pipeline_case, review_of

from reports import report
from traceanalyzer.output import csv_text
from traceanalyzer.review import Review, SourceFile, Withheld

CASES = {"pipeline": pipeline_case, "experts": expert_case, "mfu": mfu_case}


@cache
def page_of(name: str) -> str:
    return report(*CASES[name]())


@cache
def hostile_page_of(name: str) -> str:
    return report(*hostile(CASES[name]()))


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


def without_values(*withheld: Withheld) -> Review:
    """A review in which nothing was measured."""
    fields = base_review()
    fields["quality"]["withheld"] = [{"metric": item.metric, "reason": item.reason} for item in withheld]
    return review_of(fields)


def missing(metric: str) -> Withheld:
    return Withheld(metric=metric, reason=f"no {metric} here")


def test_the_page_is_in_reading_order() -> None:
    page = Elements(page_of("pipeline"))
    assert page.ids("section") == [
        *(
            "findings",
            "timeline-section",
            "bubble",
            "owners",
            "steps",
            "memory",
            "job",
            "tables",
            "quality",
            "method",
            "provenance",
        ),
        *("all-to-all", "mfu", "roofline"),  # what this run does not tell, in one list at the end
    ]
    prose = page.prose
    order = [
        "27.4 % of the pipeline phase",
        "Pipeline bubble ? 27.4 %",
        "What to do first",
        "What causes the gaps",
        "Measured actions",
    ]
    assert [prose.index(text) for text in order] == sorted(prose.index(text) for text in order)
    assert "1F1B · 4 stages · 8 microbatches" in prose


def test_warnings_stand_before_the_verdict() -> None:
    prose = Elements(page_of("experts")).prose
    assert prose.index("Read this first. CPU pressure was 31 %") < prose.index("Rank 1 receives")


@pytest.mark.parametrize("name", CASES)
def test_tiles_are_the_numbers_that_are_known(name: str) -> None:
    review, page = CASES[name]()[0], Elements(page_of(name))
    tiles = [attrs["data-tile"] for tag, attrs in page.starts if tag == "li" and "data-tile" in attrs]
    assert tiles == [tile.id for tile in review.headline.tiles]
    assert tiles


def test_what_is_withheld_is_folded_below_the_tiles_once_per_cause() -> None:
    prose = Elements(report(*expert_case())).prose
    assert "Withheld: Bubble, MFU Bubble: no pipeline in this job MFU: paced run" in prose
    assert "Withheld: MFU MFU: paced run (run it without pacing)" in Elements(report(*pipeline_case())).prose
    assert "Withheld: " not in Elements(report(*mfu_case())).prose.partition("Data quality")[0]


def test_a_review_of_nulls_shows_reasons_and_no_number() -> None:
    review = without_values(*map(missing, ("bubble", "all_to_all", "mfu", "step", "accounting")))
    prose = Elements(report(review, {})).prose
    for text in ("No bubble here.", "No all_to_all here.", "No mfu here."):
        assert text in prose
    assert not re.search(r"\b(NaN|nan|None|inf|Infinity)\b", prose)


def test_figures_that_share_a_reason_are_withheld_in_one_line() -> None:
    review = mfu_case()[0]
    paced = [Withheld(metric=f"mfu.{name}", reason="paced run") for name in ("hfu", "mfu_unprofiled", "predicted_mfu")]
    quality = msgspec.structs.replace(review.quality, withheld=paced)
    prose = Elements(report(msgspec.structs.replace(review, quality=quality), {})).prose
    assert "What is withheld, and why mfu.hfu, mfu.mfu_unprofiled, mfu.predicted_mfu: paced run" in prose


def test_a_review_without_a_verdict_says_so() -> None:
    fields = base_review()
    fields["headline"]["sentences"] = []
    prose = Elements(report(review_of(fields), {})).prose
    assert "This review states no verdict." in prose


@pytest.mark.sweep(2)
@pytest.mark.parametrize("name", ["actions", "ideal_actions", "bubble", "accounting", "steps"])
def test_any_table_may_be_missing_or_empty(name: str) -> None:
    review, tables = pipeline_case()
    without = {key: frame for key, frame in tables.items() if key != name}
    assert report(review, without).endswith("</html>")
    assert report(review, {**tables, name: tables[name].clear()}).endswith("</html>")


def paths_of(value: Any, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(found for key, entry in entries for found in paths_of(entry, (*path, key)))]


EVERYTHING = msgspec.structs.replace(
    mfu_case()[0],
    **{name: getattr(expert_case()[0], name) for name in ("all_to_all", "stragglers", "warnings")},
    **{name: getattr(pipeline_case()[0], name) for name in ("bubble", "findings")},
)
NOTHING = without_values()
PATHS = [path for path in paths_of(to_builtins(EVERYTHING)) if path]


@settings(deadline=None, max_examples=60)
@given(
    path=st.sampled_from(PATHS),
    value=st.sampled_from([None, math.nan, math.inf, -1, 0, "", "<b>x</b>", [], {}, 2**40, True]),
)
def test_no_value_of_a_review_breaks_the_page(path: tuple[str | int, ...], value: object) -> None:
    slow = {name: getattr(NOTHING, name) for name in {"step", "mfu", "bubble"} - {path[0]}}  # their charts take long
    review = changed(EVERYTHING, path, lambda _: value)
    if review is None:
        return  # a review cannot hold it
    visible = report(msgspec.structs.replace(review, **slow), {}).split('<script type="application/json"')[0]
    assert not re.search(r"\b(NaN|nan|None|inf|Infinity)\b", Elements(visible).prose)


@pytest.mark.parametrize("name", CASES)
def test_names_from_traces_stay_text(name: str) -> None:
    html = hostile_page_of(name)
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
    page = Elements(hostile_page_of(name))
    drawing = [
        text for attrs, text in page.scripts if "type" not in attrs and "docs_json" in text and len(text) < 500_000
    ]
    assert len(drawing) == 1
    assert not re.search(r"<script|<img|\$\$|\\\\\(|\\\\\[|\]\]>;window", drawing[0])
    if name != "mfu":  # only the waterfall's bars carry names
        assert "__pwn" not in drawing[0]


def test_nothing_is_loaded_from_anywhere() -> None:
    html = page_of("pipeline")
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
    page = Elements(page_of("pipeline"))
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
    assert review.bubble is not None
    bubble = msgspec.structs.replace(review.bubble, span_share=math.nan)
    page = Elements(report(msgspec.structs.replace(review, bubble=bubble), tables))
    inside = json.loads(next(text for attrs, text in page.scripts if attrs.get("id") == "review"))
    plain = json.loads(msgspec.json.encode(review))
    assert inside == {**plain, "bubble": {**plain["bubble"], "span_share": None}}


def test_tables_inside_are_the_tables() -> None:
    review, tables = expert_case()
    page = Elements(report(review, tables))
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
    assert csv_text(pl.DataFrame({"splits": [[1, 2], None]})) == "splits\n[1 2]\n\n"


def test_findings_come_worst_first_with_their_window_on_the_timelines_axis() -> None:
    page = Elements(page_of("pipeline"))
    shows = [attrs for tag, attrs in page.starts if tag == "button" and attrs.get("data-show") == "timeline-section"]
    # the finding is about the first forward (50 ms) and 600 ms after; step 3 began 1 650 + 1 699.5 + 2 × 20 ms before step 5, which is the median and the zero of the axis
    assert [(float(b["data-start"] or 0), float(b["data-end"] or 0)) for b in shows] == [(-3389.5, -2739.5)]
    assert "1 check passed" in page.prose


def test_long_lists_are_cut_and_counted() -> None:
    fields = base_review()
    defect = {
        "severity": "loss",
        "file": "f",
        "rank": 0,
        "byte_from": 0,
        "byte_to": 1,
        "events_affected": 1,
        "action": "skipped",
    }
    said = {"affects": [], "message": "cut", "hint": "copy again"}
    fields["quality"]["defects"] = [{"code": f"c{i}", **defect, **said} for i in range(150)]
    files = [SourceFile(rank=i, file=f"f{i}") for i in range(100)]
    prose = Elements(report(msgspec.structs.replace(review_of(fields), files=files), {})).prose
    assert "50 more rows are in review.json." in prose
    assert "36 more rows are in review.json." in prose
