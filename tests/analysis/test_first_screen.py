"""The first sentences say only what the review holds, and nothing that it withholds; all figures are of one set of steps."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from inputs.tiny_device import TinyDevice
from msgspec import to_builtins
from msgspec.structs import replace
from planted import Faults, Job, plant

import reports
from traceanalyzer.analysis.assemble import Analysis, analyze, read
from traceanalyzer.analysis.first_screen.tiles import Known, tiles
from traceanalyzer.review import Review, Tile
from traceanalyzer.review.theory import theory_share
from traceanalyzer.review.words import milliseconds, percent, points, times
from traceanalyzer.schema import CAUSE

_PIPELINE = {"pp": 3, "num_microbatches": 5, "num_steps": 2}
_EXPERTS = {"pp": 1, "dp": 4, "ep": 4, "moe_layers": 2, "num_microbatches": 2, "num_steps": 2}
PLANTED: dict[str, tuple[Job, Faults, list[int] | None]] = {
    "clean pipeline": (Job(**_PIPELINE), Faults(), None),
    "slow stage": (Job(**_PIPELINE), Faults(slow_compute={1: 1.6}), None),
    "slow host": (
        Job(**_PIPELINE, steps_ahead=0),
        Faults(host_stall_ns={(2, step, 3): 19_000_000 for step in (1, 2)}),
        None,
    ),
    "slow replica": (Job(pp=2, dp=3, num_microbatches=3, num_steps=2), Faults(slow_compute={4: 1.5}), None),
    "one rank of a pipeline": (Job(**_PIPELINE), Faults(slow_compute={1: 1.6}), [0]),
    "hot expert": (Job(**_EXPERTS, moe_hot_share=0.5), Faults(), None),
    "one rank of an expert group": (Job(**_EXPERTS, moe_hot_share=0.5), Faults(), [2]),
    "slow data-parallel rank": (Job(pp=1, dp=3, num_microbatches=2, num_steps=2), Faults(slow_compute={1: 1.4}), None),
    "one step": (Job(pp=1, dp=3, num_microbatches=2, num_steps=1), Faults(slow_compute={1: 1.4}), None),
    "varying actions": (Job(**_PIPELINE | {"num_steps": 3}), Faults(varying_compute=0.6), None),
    "two members of a tensor group": (
        Job(pp=1, dp=4, tensor=4, num_microbatches=2, num_steps=2), Faults(slow_compute={3: 1.5}), [1, 3],
    ),
    "experts whose clocks are apart": (
        Job(**_EXPERTS), Faults(clock_offset_ns={1: 9_000_000, 3: -4_000_000}, slow_compute={2: 1.4}), None,
    ),
    "a pipeline of tensor groups": (
        Job(pp=2, dp=4, tensor=2, num_microbatches=3, num_steps=2), Faults(slow_compute={5: 1.3}), None,
    ),
}  # fmt: skip
_NUMBER = re.compile(r"\d(?:[\d,.]*\d)? ?(?:%|×|ns\b|µs\b|ms\b|s\b|points\b)")
_DENIED = {
    "bubble": r"The bubble takes|Pipeline bubble",
    "bubble.measured_share": r"The bubble takes|Pipeline bubble",
    "bubble.worth": r"would be worth|repaired saves",
    "bubble.attribution_ms": r"mostly because",
    "all_to_all.rank_load_max_over_mean": r"The fullest rank receives|All-to-all imbalance",
    "all_to_all.imbalance_cost_ms": r"theory 1.00× balanced.*, (?:costs|balance would)",
    "all_to_all.chance_max_over_mean": r"by chance|chance gives",
    "all_to_all.wait_share": r"of their time waiting at all-to-alls|most at all-to-alls for|wait mostly for rank",
    "all_to_all.blame": r"most at all-to-alls for|wait mostly for rank|waiting at all-to-alls, mostly for",
    "mfu.mfu": r"\bMFU  |% MFU",
    "stragglers": r"holds up the others|computes [\d.]+× as long as .*: this costs",
}
"""Withheld metrics, and what on the first screen would claim them all the same."""


@pytest.fixture(scope="module", params=PLANTED)
def analysis(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Analysis:
    job, faults, ranks = PLANTED[request.param]
    return analyze(read(plant(job, faults, tmp_path_factory.mktemp("planted")).traces, ranks=ranks))


@pytest.fixture(scope="module")
def review(analysis: Analysis) -> Review:
    return analysis.review


def leaves(value: Any) -> Iterator[float]:
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for each in value:
            yield from leaves(each)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield value


def written(review: Review) -> set[str]:
    """Every number of the review outside its first screen as sentences write it, and shares of what they name."""
    record = to_builtins(review)
    del record["headline"]
    step, least = review.step.duration_ms.median, review.step.least_reported_ms
    found = {text(value) for value in leaves(record) for text in (percent, milliseconds, times)}
    if step and least:
        found.add(percent(least / step))
    if review.bubble is not None and step:
        fault, theory = review.bubble.largest_fault, theory_share(review.bubble)
        found |= {percent(fault.ms / step)} if fault is not None else set()
        if theory is not None and review.bubble.measured_share is not None:
            found.add(points(review.bubble.measured_share - theory[0]).lstrip("+"))
    found |= {percent(each.at_most_ms / step) for each in review.findings if step and each.at_most_ms}
    if (study := review.what_if) is not None and study.last_stage_share is not None:
        saved = study.last_stage_share * (study.replayed_ms - study.ideal_ms)
        found |= {milliseconds(saved), percent(saved / study.replayed_ms)}
    waits = [wait for rank in review.sample.ranks for wait in rank.waits] if review.sample else []
    for part in ("duration_ms", "low_ms", "high_ms"):
        found.add(milliseconds(sum(getattr(wait, part) for wait in waits)))
    return found


def unknown_numbers(review: Review) -> list[str]:
    """Numbers of the first three sentences that are nowhere else in the review."""
    known = written(review)
    said = [number for sentence in review.headline.sentences[:3] for number in _NUMBER.findall(sentence)]
    return [number for number in said if number not in known]


def claimed_though_withheld(analysis: Analysis) -> list[str]:
    """Withheld metrics that the first screen claims; savings of repairs, where no replay gave any."""
    review = analysis.review
    withheld = {item.metric for item in review.quality.withheld}
    lines = [*review.headline.sentences, *(" ".join(map(str, tile_words(tile))) for tile in review.headline.tiles)]
    found = [
        metric
        for metric, claim in _DENIED.items()
        if metric in withheld and any(re.search(claim, line) for line in lines)
    ]
    priced = [each.id for each in review.findings if each.id.startswith("pipeline.") and each.worth_ms is not None]
    return [*found, *(priced if "bubble.worth" in withheld else [])]


def tile_words(tile: Tile) -> list[str]:
    return [
        f"{tile.title}  {tile.value_text}",
        *(f"theory {text}" for text in (tile.theory_text,) if text),
        f", {tile.gap_text or ''}",
    ]


def disagreeing(analysis: Analysis) -> list[str]:
    """What is not of the one set of typical steps: headline, ledger, step table, bubble and attribution."""
    review, tables = analysis.review, analysis.tables
    steps = tables["steps"].filter("is_typical")
    if steps.is_empty():
        return []
    numbers, windows = set(steps["step"]), steps.select("step", (pl.col("end_ns") - pl.col("start_ns")).alias("ns"))
    owned = tables["accounting"].filter(pl.col("step").is_in(list(numbers))).group_by(pl.col("owner").cast(pl.String))
    ledger = {row.owner: row.ms for row in review.accounting.owners}
    by_table = dict(owned.agg(pl.col("duration_ns").sum() / 1e6 / steps.height).iter_rows())
    longest = sorted(windows.group_by("step").agg(pl.col("ns").max() / 1e6)["ns"])
    apart = set(tables["steps"].filter(~pl.col("is_typical"))["step"])
    bubble = review.bubble
    measured = bubble is not None and bubble.measured_share is not None
    attribution = bubble.attribution_ms if bubble is not None else None
    shares = attribution.ideal + sum(getattr(attribution, cause) for cause in CAUSE.categories) if attribution else 0.0
    agree = {
        "number of steps": len(numbers) == review.quality.num_steps_used == review.step.duration_ms.num_steps,
        "step times": longest == pytest.approx(sorted(review.step.duration_ms.values)),
        "steps set apart": {each.step for each in review.step.set_apart} == apart,
        "ledger": ledger == pytest.approx({owner: by_table[owner] for owner in ledger}),
        "mean window": float(windows["ns"].mean() or 0) / 1e6 == pytest.approx(review.accounting.mean_step_ms or 0),  # pyright: ignore[reportArgumentType]
        "phases": sum(row.ms for row in review.accounting.phases) == pytest.approx(sum(ledger.values())),
        "bubble": not measured or bubble is None or {each.step for each in bubble.steps} == numbers,
        "blame": all(set(tables[name]["step"]) <= numbers for name in ("bubble", "blame") if "step" in tables.get(name, steps).columns and name in tables),
        "attribution": attribution is None or shares == pytest.approx(attribution.measured),
    }  # fmt: skip
    return [name for name, is_so in agree.items() if not is_so]


def test_every_number_of_the_first_sentences_is_in_the_review(review: Review) -> None:
    assert any(_NUMBER.search(sentence) for sentence in review.headline.sentences)
    assert unknown_numbers(review) == []


def test_nothing_claims_what_is_withheld(analysis: Analysis) -> None:
    assert claimed_though_withheld(analysis) == []


def test_all_figures_are_of_one_set_of_steps(analysis: Analysis) -> None:
    assert disagreeing(analysis) == []


REAL = (
    "dlrm8-v100", "megatron-tp2-v100", "torchrec-a2a-v100/run4", "torchrec-resnet18", "deepseek-dualpipe-h800",
    "torchao-ep-moe-b200", "nanogpt-h100/hook", "nccl-args-a100", "ddp-mi300", "ascend", "megatronapp-pp4-marks/data-1-pipeline-4-tensor-1-pp-aggregated-iter10.json.gz",
    "straggler-op-table-ST/trace-ST.parquet",
)  # fmt: skip


@pytest.mark.wide
@pytest.mark.parametrize("name", REAL)
def test_the_same_holds_of_real_traces(name: str, corpus: Path) -> None:
    analysis = analyze(read(corpus / name))
    assert unknown_numbers(analysis.review) == []
    assert claimed_though_withheld(analysis) == []
    assert disagreeing(analysis) == []


def test_tiles_are_known_and_what_is_withheld_is_one_line_per_cause(review: Review) -> None:
    assert all(tile.value_text for tile in review.headline.tiles)
    assert review.headline.tiles[-1].id == "step_time"
    causes = [(each.what, each.reason) for each in review.headline.withheld_causes]
    assert len(causes) == len(set(causes)) <= 5
    assert {metric for each in review.headline.withheld_causes for metric in each.metrics} <= {
        item.metric for item in review.quality.withheld
    }
    assert "run.json" not in " ".join(each.reason for each in review.headline.withheld_causes)


def test_the_mean_rank_comes_third_at_the_earliest(review: Review) -> None:
    assert not any("mean rank" in sentence for sentence in review.headline.sentences[:2])


def test_a_slow_rank_of_part_of_its_group_is_bounded_and_nobody_is_acquitted(tmp_path: Path) -> None:
    job, faults, ranks = PLANTED["two members of a tensor group"]
    traces = plant(job, faults, tmp_path).traces
    found = analyze(read(traces, ranks=ranks)).review
    (fault,) = found.culprits
    assert (fault.rank, fault.ms, fault.basis) == (3, None, "excess")
    assert fault.high == pytest.approx(
        0.5 * 2 * (2 + 4) + 0.25, rel=0.05
    )  # half of all its computation, optimizer included
    assert re.match(
        r"Rank 3 .*needs .* per step longer than its peers .*what its repair would save is not known",
        found.headline.sentences[0],
    )
    alike = analyze(read(traces, ranks=[1, 2])).review
    assert alike.culprits == []
    assert alike.headline.sentences[0].startswith("Not all members of the groups of these ranks were captured")


def test_a_lone_rank_of_a_pipeline_lacks_what_other_ranks_would_tell(tmp_path: Path) -> None:
    job, faults, ranks = PLANTED["one rank of a pipeline"]
    causes = analyze(read(plant(job, faults, tmp_path).traces, ranks=ranks)).review.headline.withheld_causes
    assert [each.what for each in causes] == ["Bubble", "MFU", "Which rank is late"]
    assert [each.unlock for each in causes] == [
        "profile one rank of every stage",
        "`--job FILE`",
        "profile more of their groups",
    ]


FIRST = {
    "clean pipeline": r"No rank, stage or host holds up the others by more than .* of a step of ",
    "slow stage": r"Rank 1 \(stage 1\) computes .*: this costs .* of a step of .*%\)\.",
    "slow host": r"The host of rank 2 \(stage 2\) .*: this costs ",
    "slow replica": r"Rank 4 \(stage 1\) computes 1\.[45]\d× as long as ranks 3, 5: this costs ",
    "one rank of a pipeline": r"Rank 0 \(stage 0 of 3; 1 of 3 ranks\) computes for ",
    "hot expert": r"The fullest (expert )?rank receives ",
    "one rank of an expert group": r"Rank 2 \(1 of 4 ranks\) computes for ",
    "slow data-parallel rank": r"Rank 1 .*computes 1\.4\d× as long as ranks 0, 2: this costs ",
}


@pytest.mark.sweep(4)
@pytest.mark.parametrize("kind", FIRST)
def test_the_first_sentence_names_the_fault_or_that_there_is_none(kind: str, tmp_path: Path) -> None:
    job, faults, ranks = PLANTED[kind]
    sentences = analyze(read(plant(job, faults, tmp_path).traces, ranks=ranks)).review.headline.sentences
    assert re.match(FIRST[kind], sentences[0]), sentences


def test_a_lone_device_says_where_its_time_went_and_in_which_kernels(tmp_path: Path) -> None:
    """Steps of 4 ms with two kernels of 900 µs; the second is launched 1.6 ms late."""
    trace = TinyDevice()
    for step in range(4):
        at = 4000 * step
        trace.step(step, at, at + 3990)
        trace.kernel(at + 100, at + 1000, launched=at + 20)
        trace.kernel(at + 2600, at + 3500, launched=at + 2580)
    trace.write(tmp_path)
    analysis = analyze(read(tmp_path))
    ledger, kernels = analysis.review.headline.sentences[:2]
    assert re.match(r"The only rank computes for 4\d\.\d% of .*; its largest loss is waiting for the host, ", ledger)
    assert kernels.startswith("Matrix multiplications take 1.80 ms per step, 100% of all kernel time")
    assert [tile.id for tile in analysis.review.headline.tiles] == ["compute", "host", "step_time"]
    shown = reports.text(analysis.review, analysis.tables)
    assert "withheld: MFU: it needs the model, tokens per step and the sequence length (`--job FILE`)" in shown


def test_no_imbalance_costs_less_than_nothing(tmp_path: Path) -> None:
    """Beside a slow link a balanced load can be the slower one: its replay then saves less than nothing."""
    job, faults, _ = PLANTED["hot expert"]
    review = analyze(read(plant(job, faults, tmp_path).traces)).review
    exchanged = review.all_to_all
    assert exchanged is not None
    (balanced,) = (each for each in exchanged.worth if each.remedy == "balanced_experts")
    for saved, said in ((balanced.ms, "costs "), (-0.155, "balance would save no time")):
        worth = [replace(balanced, ms=saved)]
        known = Known(review.step, review.accounting, review.mfu, all_to_all=replace(exchanged, worth=worth))
        (tile,) = (each for each in tiles(known, {}) if each.id == "all_to_all")
        assert (tile.gap_text or "").startswith(said)
