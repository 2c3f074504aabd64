"""What an agent is answered: plain data of bounded size, with the ids and field names of `review.json`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import msgspec

from traceanalyzer.api.results import Result
from traceanalyzer.comparison.record import Comparison
from traceanalyzer.errors import UsageError
from traceanalyzer.output import as_words
from traceanalyzer.queries.catalogue import catalogue
from traceanalyzer.queries.selection import Selected
from traceanalyzer.spelling import did_you_mean

MOST_ROWS = 1000
_MOST_CHARACTERS = 100_000
"""Of one part of a review."""
_MOST_CELL = 500


@dataclass(frozen=True, kw_only=True)  # without slots: mcp reads defaults from class attributes
class Verdict:
    """The verdict on a run."""

    path: str
    sentences: list[str]
    """The verdict in words, worthiest first; everything it rests on is in the other fields."""
    figures: dict[str, dict[str, Any]]
    """By path in the review: value, low, high, scope, basis, num_ranks. A null value is known by its bounds alone."""
    quality: dict[str, Any]
    """What the result rests on: verdict complete, sampled, partial or unusable; ranks, steps, events, clocks."""
    withheld: list[dict[str, Any]]
    """Figures that the data cannot carry, each with the reason."""
    warnings: list[str]
    failed: list[str]
    """Ids of the checks that failed, worthiest first; the tool `findings` has their evidence."""
    num_passed: int
    tables: dict[str, int]
    """Tables that hold rows, with how many."""


@dataclass(frozen=True, kw_only=True)  # without slots: mcp reads defaults from class attributes
class Rows:
    """Rows of a table or of a query's answer."""

    columns: list[str]
    rows: list[list[Any]]
    """Values in the order of `columns`; times named `_ns` are integer nanoseconds, shares are of 1."""
    num_rows: int
    """Rows there are without the limit."""
    is_cut: bool


def verdict(path: str, result: Result) -> Verdict:
    """The verdict of a result, without its lists."""
    review = result.review
    quality = cast("dict[str, Any]", msgspec.to_builtins(review.quality))
    withheld, defects = quality.pop("withheld"), quality.pop("defects")
    quality["defects"] = sorted({defect["code"] for defect in defects})
    return Verdict(
        path=path,
        sentences=list(review.headline.sentences),
        figures=msgspec.to_builtins(review.figures),
        quality=quality,
        withheld=withheld,
        warnings=list(review.warnings),
        failed=[finding.id for finding in review.findings if not finding.passed],
        num_passed=sum(finding.passed for finding in review.findings),
        tables={name: frame.height for name, frame in result.tables.items() if frame.height},
    )


def findings(result: Result, *, passed: bool) -> list[dict[str, Any]]:
    """What was checked, failed first; passed ones where they are asked for."""
    return [msgspec.to_builtins(each) for each in result.review.findings if passed or not each.passed]


def comparison(found: Comparison) -> dict[str, Any]:
    """A comparison without its waterfalls line by line, which only the command writes."""
    answer = cast("dict[str, Any]", msgspec.to_builtins(found))
    for pair in answer["pairs"]:
        pair["waterfalls"] = [each["by"] for each in pair["waterfalls"]]
    return answer


def part(result: Result, field: str) -> Any:  # noqa: ANN401 - JSON
    """One part of the review, by names and positions joined with dots: `bubble.stages.0`. Raises `UsageError`."""
    found: Any = msgspec.to_builtins(result.review)
    names = field.split(".")
    for number, name in enumerate(names):
        found = _entry(found, name, ".".join(names[:number]) or "the review")
    size = len(msgspec.json.encode(found))
    if size > _MOST_CHARACTERS:
        raise UsageError(f"{field}: is {size:,} characters long", f"ask for a part of it: {_entries(found)}")
    return found


def rows(found: Selected) -> Rows:
    """Rows as plain data; long texts are cut."""
    frame = as_words(found.frame)
    return Rows(
        columns=frame.columns,
        rows=[[_cell(value) for value in row] for row in frame.iter_rows()],
        num_rows=found.num_rows,
        is_cut=frame.height < found.num_rows,
    )


def tables(name: str | None) -> list[dict[str, Any]]:
    """Every table with what a row of it is; of one table its columns too. Raises `UsageError`."""
    listed = cast("list[dict[str, Any]]", msgspec.to_builtins(catalogue())["tables"])
    if name is None:
        return [{key: table[key] for key in ("name", "meaning", "in_result")} for table in listed]
    found = [table for table in listed if table["name"] == name]
    if not found:
        raise UsageError(
            f"there is no table {name}",
            f"{did_you_mean(name, [table['name'] for table in listed])}tables: {', '.join(table['name'] for table in listed)}",
        )
    return found


def _entry(found: Any, name: str, where: str) -> Any:  # noqa: ANN401 - JSON
    if isinstance(found, dict) and name in found:
        return cast("dict[str, Any]", found)[name]
    if isinstance(found, list) and name.isdecimal() and int(name) < len(cast("list[Any]", found)):
        return cast("list[Any]", found)[int(name)]
    raise UsageError(f"{where} has no {name}", f"it has {_entries(found)}")


def _entries(found: Any) -> str:  # noqa: ANN401 - JSON
    if isinstance(found, dict):
        return ", ".join(cast("dict[str, Any]", found))[:1000]
    return f"entries 0 to {len(cast('list[Any]', found)) - 1}" if isinstance(found, list) and found else "nothing"


def _cell(value: Any) -> Any:  # noqa: ANN401 - JSON
    if isinstance(value, str) and len(value) > _MOST_CELL:
        return value[:_MOST_CELL] + "…"
    if isinstance(value, float) and not -1e308 <= value <= 1e308:
        return None  # JSON has neither NaN nor infinities
    return value
