"""Every single number of a review has its bounds, scope and ranks; verdicts tell sampled from lost."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

import msgspec
import polars as pl
import pytest
from inputs.tiny_trace import run_of
from launched.gpipe_run import GPIPE, review_of, with_job
from msgspec import Struct, to_builtins
from planted import Faults, Job, plant

from traceanalyzer.analysis.assemble import Analysis, analyze, read
from traceanalyzer.errors import UsageError
from traceanalyzer.gaps.sample.bounds import figures, sections
from traceanalyzer.review import Review
from traceanalyzer.schema import STEPS, WAIT_BOUNDS

DESCRIPTIONS = {"tool", "source", "job", "headline", "quality", "sample"}
"""Sections of the review that say what was captured and in words what the others measure."""


def structs_of(kind: Any) -> list[type[Struct]]:
    """The struct that a field may hold, not those in its lists."""
    options = [kind, *get_args(kind)] if get_origin(kind) in (Union, UnionType, Annotated) else [kind]
    found = [option for option in options if isinstance(option, type) and issubclass(option, Struct)]
    return found + [each for option in get_args(kind) if get_origin(kind) is Annotated for each in structs_of(option)]


SECTIONS = {
    field.name: structs_of(field.type)[0]
    for field in msgspec.structs.fields(Review)
    if structs_of(field.type) and field.name not in DESCRIPTIONS
}
COUNTS = ("num_", "slowest_rank", "tokens_per_step", "from_stage", "to_stage")
SCOPES = {"job", "pipeline", "group", "stage", "rank", "ranks"}


def numbers(value: Any, path: str) -> Iterator[tuple[str, float]]:
    if isinstance(value, dict):
        for name, inner in value.items():
            if not name.startswith(COUNTS):
                yield from numbers(inner, f"{path}.{name}")
    elif isinstance(value, list) and path.startswith("memory."):
        for at, row in enumerate(value):
            own = {k: v for k, v in row.items() if k not in ("rank", "stage")} if isinstance(row, dict) else row
            yield from numbers(own, f"{path}.{at}")
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield path, value


def filled(kind: Any) -> Any:
    """A value of the type with a number wherever one may stand; lists hold one row."""
    if get_origin(kind) is Annotated:
        return filled(get_args(kind)[0])
    if get_origin(kind) in (Union, UnionType):
        return filled(next(option for option in get_args(kind) if option is not type(None)))
    if get_origin(kind) is list:
        return [filled(get_args(kind)[0])]
    if get_origin(kind) is dict:
        return {}
    if isinstance(kind, type) and issubclass(kind, Struct):
        return kind(**{name: filled(inner) for name, inner in get_type_hints(kind, include_extras=True).items()})
    return {int: 1, float: 0.5, str: "x", bool: False}.get(kind)


def test_every_section_has_figures_whatever_its_type(tmp_path: Path) -> None:
    """Walks the types of `Review`: a new section, or a new number in one, without a figure fails here."""
    assert set(SECTIONS) == set(sections())
    full = {name: filled(kind) for name, kind in SECTIONS.items()}
    review = analyze(read(run_of(tmp_path, GPIPE))).review
    assert review.sample is not None
    waits = pl.DataFrame(schema=WAIT_BOUNDS)
    found = figures(msgspec.structs.replace(review, **full), review.sample, waits, pl.DataFrame(schema=STEPS))
    for name in SECTIONS:
        wanted = dict(numbers(msgspec.to_builtins(full[name]), name))
        for path in wanted:
            assert path in found, path
    assert "memory.stages.0.peak_bytes" in found
    assert "next_schedules.layers_to_move.saves_ms" in found
    assert "bubble.attribution_ms.stage" in found


def test_memory_s_numbers_are_of_single_ranks(tmp_path: Path) -> None:
    review = planted(tmp_path, Job(pp=2))
    rows = review["memory"]["stages"]
    assert rows
    for at, row in enumerate(rows):
        figure = review["figures"][f"memory.stages.{at}.in_flight"]
        assert (figure["value"], figure["low"], figure["high"]) == (row["in_flight"],) * 3
        assert (figure["scope"], figure["num_ranks"]) == ("rank", 1)


def planted(folder: Path, job: Job) -> dict[str, Any]:
    plant(job, Faults(slow_compute={1: 1.2}), folder)
    return to_builtins(analyze(read(folder / "traces")).review)


MOE = Job(pp=2, dp=2, ep=2, moe_layers=1, moe_hot_share=0.6, num_microbatches=4)
Some = Callable[[tuple[int, ...] | None], Analysis]


@pytest.fixture(scope="module")
def some_ranks(tmp_path_factory: pytest.TempPathFactory) -> Some:
    """Chosen ranks of `MOE`, each choice analysed once."""
    traces = plant(MOE, Faults(slow_compute={1: 1.2}), tmp_path_factory.mktemp("planted")).traces

    @cache
    def analysed(ranks: tuple[int, ...] | None) -> Analysis:
        return analyze(read(traces, ranks=None if ranks is None else list(ranks)))

    return analysed


@pytest.mark.wide
@pytest.mark.sweep(1)
@pytest.mark.parametrize("ranks", [None, (0, 2), (0, 1), (1,)])
def test_every_number_has_its_figure(ranks: tuple[int, ...] | None, some_ranks: Some) -> None:
    review = to_builtins(some_ranks(ranks).review)
    given = dict(review["figures"])
    found = {path: value for section in SECTIONS for path, value in numbers(review[section], section)}
    assert found
    if ranks in (None, (0, 2)):
        assert any(path.startswith("memory.") for path in found)
    for path, value in found.items():
        figure = given.pop(path)
        assert figure["value"] == value
        assert figure["scope"] in SCOPES
        assert figure["num_ranks_expected"] == 4
        assert 1 <= figure["num_ranks"] <= len(ranks or range(4))
        assert figure["low"] is None or figure["low"] <= value
        assert figure["high"] is None or value <= figure["high"]
    owners = {row["owner"]: row["share"] for row in review["accounting"]["owners"]}
    for path, figure in given.items():  # what is left are the owners
        assert path.startswith("accounting.owners.")
        owner = path.removeprefix("accounting.owners.")
        assert figure["low"] <= figure["high"]
        if figure["value"] is not None:
            assert figure["value"] == owners[owner]
            assert figure["low"] <= figure["value"] <= figure["high"]


@pytest.mark.wide
def test_scope_is_what_was_captured(some_ranks: Some) -> None:
    scopes = {}
    for name, ranks in {"all": None, "pipeline": (0, 2), "group": (0, 1), "one": (1,), "mixed": (0, 3)}.items():
        review = to_builtins(some_ranks(ranks).review)
        figures = review["figures"]
        scopes[name] = (
            review["sample"]["coverage"],
            figures["step.duration_ms.median"]["scope"],
            figures.get("bubble.measured_share", {}).get("scope"),
            figures.get("all_to_all.rank_load_max_over_mean", {}).get("scope"),
        )
    assert scopes == {
        "all": ("all", "job", "job", "job"),
        "pipeline": ("pipelines", "pipeline", "pipeline", None),
        "group": ("expert_groups", "group", None, "group"),
        "one": ("one_rank", "rank", None, None),
        "mixed": ("some", "ranks", None, None),
    }


@pytest.mark.wide
def test_the_wait_of_a_lone_rank_is_a_range_that_holds_the_truth(some_ranks: Some) -> None:
    everyone = some_ranks(None)
    table = everyone.tables["accounting"]
    assert everyone.review.figures["accounting.owners.wait"].scope == "job"
    for rank in range(4):
        own = table.filter(table["rank"] == rank)
        true = own.filter(own["owner"] == "wait")["duration_ns"].sum() / own["duration_ns"].sum()
        figure = some_ranks((rank,)).review.figures["accounting.owners.wait"]
        assert figure.value is None
        assert figure.low is not None
        assert figure.high is not None
        assert figure.low <= true <= figure.high


def test_a_step_without_a_following_one_is_open_above(tmp_path: Path) -> None:
    figure = planted(tmp_path, Job(pp=2, num_steps=1))["figures"]["step.duration_ms.median"]
    assert figure["low"] == figure["value"]
    assert figure["high"] is None


def test_clocks_that_may_be_off_widen_the_bubble(tmp_path: Path) -> None:
    plant(Job(ranks_per_host=1), Faults(clock_offset_ns={1: 5_000_000}), tmp_path)
    figures = to_builtins(analyze(read(tmp_path / "traces")).review)["figures"]
    figure = figures["bubble.measured_share"]
    assert figure["low"] < figure["value"] < figure["high"]
    assert figures["bubble.idle_share"]["low"] is None
    assert figures["step.duration_ms.median"]["low"] == figures["step.duration_ms.median"]["value"]


# -- sampled by design against lost ------------------------------------------------------------------------------------


def verdict(review: dict[str, Any]) -> tuple[str, list[int]]:
    return review["quality"]["verdict"], review["quality"]["ranks_lost"]


def test_ranks_that_nobody_promised_are_sampled(tmp_path: Path) -> None:
    run_of(tmp_path, GPIPE)
    assert verdict(review_of(tmp_path)) == ("complete", [])
    (tmp_path / "traces" / "rank00000.json").unlink()
    assert verdict(review_of(tmp_path)) == ("sampled", [])


def test_a_promised_rank_that_is_missing_is_lost(tmp_path: Path) -> None:
    run = with_job(run_of(tmp_path, GPIPE))
    (run / "traces" / "rank00000.json").unlink()
    review = review_of(run)
    assert verdict(review) == ("partial", [0])
    assert any("Missing from this capture: rank 0" in line for line in review["warnings"])


@pytest.mark.parametrize(
    ("traced", "expected"), [([1], ("sampled", [])), ([0, 1], ("partial", [0])), ([0], ("partial", [0]))]
)
def test_only_ranks_chosen_for_tracing_are_promised(traced: list[int], expected: Any, tmp_path: Path) -> None:
    run = with_job(run_of(tmp_path, GPIPE), traced_ranks=traced)
    (run / "traces" / "rank00000.json").unlink()
    assert verdict(review_of(run)) == expected


def test_who_asks_for_some_ranks_or_one_file_is_promised_no_others(tmp_path: Path) -> None:
    run = with_job(run_of(tmp_path, GPIPE))
    assert verdict(to_builtins(analyze(read(run, ranks=[1])).review)) == ("sampled", [])
    assert verdict(to_builtins(analyze(read(run / "traces" / "rank00001.json")).review)) == ("sampled", [])


def test_a_damaged_trace_is_a_loss_though_nothing_was_promised(tmp_path: Path) -> None:
    run_of(tmp_path, GPIPE)
    path = tmp_path / "traces" / "rank00000.json"
    path.write_bytes(path.read_bytes()[:-200])
    assert verdict(review_of(tmp_path))[0] == "partial"
    assert verdict(to_builtins(analyze(read(tmp_path, ranks=[1])).review))[0] == "sampled"
    assert verdict(to_builtins(analyze(read(tmp_path, ranks=[0])).review))[0] == "partial"


def test_a_run_that_failed_is_partial_with_all_its_ranks(tmp_path: Path) -> None:
    assert verdict(review_of(with_job(run_of(tmp_path, GPIPE), status="failed")))[0] == "partial"


# -- choosing ranks and steps ------------------------------------------------------------------------------------------


@pytest.mark.wide
def test_chosen_ranks_and_steps_are_all_that_is_looked_at(tmp_path: Path) -> None:
    plant(Job(pp=2, num_steps=3), Faults(), tmp_path)
    everything = analyze(read(tmp_path / "traces"))
    some = analyze(read(tmp_path / "traces", steps=[2, 3]))
    assert sorted(set(some.tables["steps"]["step"])) == [2, 3]
    expected = everything.tables["bubble"].filter(everything.tables["bubble"]["step"] > 1)
    assert some.tables["bubble"].equals(expected)
    assert some.review.quality.num_steps_used == 2
    quality = analyze(read(tmp_path / "traces", ranks=[1])).review.quality
    assert quality.events_dropped["not_chosen"] > 0
    assert quality.events_seen == quality.events_kept + sum(quality.events_dropped.values())
    assert quality.events_seen == everything.review.quality.events_seen


def test_side_files_of_ranks_that_were_not_chosen_are_left_out(tmp_path: Path) -> None:
    run = with_job(run_of(tmp_path, GPIPE))
    (run / "steps").mkdir()
    for rank in range(2):
        record = {"step": 1, "rank": rank, "start_ns": 0, "end_ns": 5, "profiled": True}
        (run / "steps" / f"rank{rank:05d}.jsonl").write_text(json.dumps(record) + "\n")
    assert read(run, ranks=[1]).step_records["rank"].to_list() == [1]


def test_nothing_chosen_is_wrong_usage(tmp_path: Path) -> None:
    run_of(tmp_path, GPIPE)
    with pytest.raises(UsageError, match="ranks"):
        read(tmp_path, ranks=[7])
    with pytest.raises(UsageError, match="steps"):
        analyze(read(tmp_path, steps=[7]))
