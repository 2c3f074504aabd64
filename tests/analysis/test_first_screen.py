"""The first sentences say only what the review holds, and nothing that it withholds."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from inputs.tiny_device import TinyDevice
from msgspec import to_builtins
from planted import Faults, Job, plant

import reports
from traceanalyzer.analysis.assemble import analyze, read
from traceanalyzer.review import Review
from traceanalyzer.review.theory import theory_share
from traceanalyzer.review.words import milliseconds, percent, points, times

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
}
_NUMBER = re.compile(r"\d(?:[\d,.]*\d)? ?(?:%|×|ns\b|µs\b|ms\b|s\b|points\b)")
_DENIED = {
    "bubble.measured_share": "The bubble takes",
    "bubble": "The bubble takes",
    "all_to_all.rank_load_max_over_mean": "The fullest rank",
    "mfu.mfu": "MFU",
    "stragglers": "holds up the others",
}
"""Withheld metrics, and words that would claim them."""


@pytest.fixture(scope="module", params=PLANTED)
def review(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Review:
    job, faults, ranks = PLANTED[request.param]
    return analyze(read(plant(job, faults, tmp_path_factory.mktemp("planted")).traces, ranks=ranks)).review


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
    step, least = review.step.duration_ms.median, review.step.least_told_ms
    found = {text(value) for value in leaves(record) for text in (percent, milliseconds, times)}
    if step and least:
        found.add(percent(least / step))
    if review.bubble is not None and step:
        fault, theory = review.bubble.largest_fault, theory_share(review.bubble)
        found |= {percent(fault.ms / step)} if fault is not None else set()
        if theory is not None and review.bubble.measured_share is not None:
            found.add(points(review.bubble.measured_share - theory[0]).lstrip("+"))
    waits = [wait for rank in review.sample.ranks for wait in rank.waits] if review.sample else []
    for part in ("duration_ms", "low_ms", "high_ms"):
        found.add(milliseconds(sum(getattr(wait, part) for wait in waits)))
    return found


def test_every_number_of_the_first_sentences_is_in_the_review(review: Review) -> None:
    known = written(review)
    said = [number for sentence in review.headline.sentences[:3] for number in _NUMBER.findall(sentence)]
    assert said
    assert [number for number in said if number not in known] == []


def test_no_sentence_claims_what_is_withheld(review: Review) -> None:
    withheld = {item.metric for item in review.quality.withheld}
    text = " ".join(review.headline.sentences)
    assert [phrase for metric, phrase in _DENIED.items() if metric in withheld and phrase in text] == []


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
