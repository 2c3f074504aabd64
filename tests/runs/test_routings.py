"""The eight dealt workloads: loads exact, one variable each, the same on any layout, and what analyses find of them."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="reference jobs need torch")

from launched.run_jobs import run_job

from instrumented_runs.experts.loads import hot_experts, visits_of_experts
from instrumented_runs.settings import DEALT_ROUTINGS, ExpertSettings
from traceanalyzer.analysis.assemble import analyze, read
from traceanalyzer.review import AllToAll, Finding


def of(routing: str, **changes: object) -> ExpertSettings:
    """15 experts on 5 shards, 3 each, 2 per token, hot ones twice the mean."""
    asked = {"num_ranks": 5, "num_experts": 15, "hot_factor": 2.0, "hot_rank": 3, "sequences_per_shard": 5}
    return ExpertSettings(folder="", routing=routing, **(asked | changes))


EVEN, HOT, REST = 120, 240, 90  # of 900 tokens, 1800 copies: mean, twice the mean, what 12 others share
LOADS = {
    "balanced": Counter({EVEN: 15}),
    "hot-experts": Counter({HOT: 3, REST: 12}),
    "hot-rank": Counter({HOT: 3, REST: 12}),
    "spread-heat": Counter({HOT: 3, REST: 12}),
    "ragged-sources": Counter({EVEN: 15}),
    "idle-experts": Counter({0: 3, 150: 12}),
    "rotating": Counter({HOT: 3, REST: 12}),
    "burst": Counter({HOT: 3, REST: 12}),
}


@pytest.mark.parametrize("routing", DEALT_ROUTINGS)
def test_loads_are_exact_and_heat_is_the_same_wherever_it_is(routing: str) -> None:
    assert Counter(visits_of_experts(of(routing), 900, step=8)) == LOADS[routing]


def ranks(routing: str, step: int) -> list[int]:
    visits = visits_of_experts(of(routing), 900, step)
    return [sum(visits[3 * rank : 3 * rank + 3]) for rank in range(5)]


def test_what_differs_is_where_when_and_from_whom() -> None:
    assert ranks("hot-rank", 1) == ranks("hot-rank", 2) == [270, 270, 270, 720, 270]
    assert ranks("spread-heat", 1) == [270, 420, 270, 420, 420]
    assert ranks("idle-experts", 1) == [450, 450, 450, 0, 450]
    assert [ranks("rotating", step).index(720) for step in range(6)] == [0, 1, 2, 3, 4, 0]
    assert [max(ranks("burst", step)) for step in range(6)] == [720, 360, 360, 360, 720, 360]
    assert ranks("ragged-sources", 1) == ranks("balanced", 1) == [360] * 5
    assert of("ragged-sources").sequences_of_shards == [4, 4, 3, 10, 4]
    assert all(of(routing).sequences_of_shards == [5] * 5 for routing in DEALT_ROUTINGS if routing != "ragged-sources")
    drawn = {tuple(sorted(hot_experts(of("hot-experts", seed=seed), 0))) for seed in range(20)}
    assert len(drawn) > 10


@pytest.mark.parametrize("routing", DEALT_ROUTINGS)
def test_fewer_ranks_with_the_same_shards_have_the_same_workload(routing: str) -> None:
    many, one = of(routing), of(routing, num_ranks=1, num_shards=5)
    assert [visits_of_experts(many, 77, step) for step in range(9)] == [
        visits_of_experts(one, 77, step) for step in range(9)
    ]
    assert many.sequences_of_shards == one.sequences_of_shards


def test_former_names_are_still_read() -> None:
    assert [of(name).routing for name in ("hot", "drifting")] == ["hot-rank", "rotating"]


def findings_of(folder: Path, routing: str) -> tuple[AllToAll, dict[str, Finding]]:
    """Launch a paced job of 3 ranks and analyse it."""
    settings = ExpertSettings(
        folder=str(folder),
        num_ranks=3,
        num_experts=6,
        hidden_size=16,
        num_heads=2,
        expert_ffn_size=16,
        sequence_length=8,
        sequences_per_shard=6,
        num_layers=1,
        num_unprofiled_steps=1,
        routing=routing,
        hot_factor=2.0,
        hot_rank=2,
        seed=1,
    )
    run_job("experts", settings)
    review = analyze(read(str(folder))).review
    assert review.all_to_all is not None
    return review.all_to_all, {finding.id: finding for finding in review.findings}


@pytest.mark.runs
@pytest.mark.wide
@pytest.mark.parametrize("routing", DEALT_ROUTINGS)
def test_the_hot_rank_source_expert_or_time_of_a_launched_job_is_found(tmp_path: Path, routing: str) -> None:
    measured, findings = findings_of(tmp_path, routing)
    balance, sources = findings["experts.balanced"], findings["experts.sources"]
    spots = {spot.unit: spot for spot in measured.hot_spots}
    assert balance.passed == (routing in ("balanced", "ragged-sources"))
    assert sources.passed == (routing != "ragged-sources")
    expected = {
        "hot-rank": 2.0,
        "rotating": 2.0,
        "idle-experts": 1.5,
        "burst": 1.2,
        "spread-heat": 1.25,
        "balanced": 1.0,
        "ragged-sources": 1.0,
    }
    if routing in expected:
        assert measured.rank_load_max_over_mean == pytest.approx(expected[routing], abs=0.06)
    if routing == "hot-rank":
        assert (spots["rank"].hottest, spots["rank"].pattern, measured.slowest_rank) == (2, "steady", 2)
    elif routing == "hot-experts":
        assert spots["expert"].hottest in hot_experts(of(routing, num_ranks=3, num_experts=6, hot_rank=2, seed=1), 0)
        assert spots["expert"].pattern == "steady"
    elif routing == "rotating":
        assert spots["rank"].pattern == "wandering"
    elif routing == "burst":
        assert (spots["rank"].pattern, spots["rank"].bursts, spots["rank"].hottest) == ("bursts", [3], 2)
        assert "nearly all of it in step 3" in balance.evidence
    elif routing == "idle-experts":
        assert measured.idle_experts == [4, 5]
        assert "no token visits experts 4, 5" in balance.evidence
    elif routing == "ragged-sources":
        assert (sources.rank, measured.fullest_source) == (2, 2)
        assert "brings 2.00× the mean" in sources.evidence
