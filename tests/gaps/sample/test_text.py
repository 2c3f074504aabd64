"""What must not be said of a sample is not said: neither on the terminal nor in the report's first screen."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest
from msgspec import to_builtins
from planted import Faults, Job, plant

import reports
from traceanalyzer.analysis.assemble import Analysis, analyze, read
from traceanalyzer.cli import main
from traceanalyzer.gaps.sample.claims import CLAIMS, supported, unsupported
from traceanalyzer.review import Review

JOB = Job(pp=2, dp=2, ep=2, moe_layers=1, moe_hot_share=0.6, num_microbatches=4, num_steps=2)
EVERYONE = ("The mean rank", "The only rank", "Where the time of the ranks went")
SAID = {
    "bubble": ("The bubble takes",),
    "imbalance by stage": ("Late starts cost", "Late starts and messages"),
    "who is slow": (
        "Slow ranks",
        "than this order at median times",
        "slow computation on",
        "held up by",
        "mostly for rank",
        "this costs",
        "holds up the others",
        "Others wait up to",
    ),
    "stragglers": ("slow rank of stage",),
    "loads of a group": (
        "The fullest rank",
        "mostly for rank",
        "Hot spots",
        "Who is late",
    ),
}
"""What text and page say where a claim of the table may be made."""
CAPTURED: dict[str, tuple[list[int], str, set[str]]] = {
    "one rank": ([1], "one_rank", set(CLAIMS)),
    "one pipeline": ([0, 2], "pipelines", {"loads of a group", "stragglers"}),
    "one expert group": ([0, 1], "expert_groups", {"bubble", "imbalance by stage"}),
    "a pipeline and the replicas of its first stage": ([0, 1, 2], "pipelines", set()),
    "neither": ([0, 3], "some", {"bubble", "imbalance by stage", "loads of a group", "stragglers"}),
}
"""Ranks of PP 2 × DP 2 with expert groups {0, 1} and {2, 3}, their coverage, and the claims they must not make."""


@pytest.fixture(scope="module")
def traces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return plant(JOB, Faults(slow_compute={2: 1.3}), tmp_path_factory.mktemp("planted")).traces


@cache
def _analysed(traces: Path, ranks: tuple[int, ...] | None) -> Analysis:
    return analyze(read(traces, ranks=None if ranks is None else list(ranks)))


def analysed(traces: Path, ranks: list[int] | None) -> Analysis:
    """Each choice of ranks is analysed once."""
    return _analysed(traces, None if ranks is None else tuple(ranks))


def reviewed(traces: Path, ranks: list[int] | None) -> Review:
    return analysed(traces, ranks).review


def test_every_claim_of_the_table_has_its_words() -> None:
    assert set(SAID) == set(CLAIMS)


@pytest.mark.sweep(2)
@pytest.mark.parametrize("name", CAPTURED)
def test_nothing_is_said_that_these_ranks_cannot_know(name: str, traces: Path) -> None:
    ranks, coverage, silent = CAPTURED[name]
    analysis = analysed(traces, ranks)
    assert analysis.review.sample is not None
    assert (analysis.review.sample.coverage, set(unsupported(analysis.review.sample))) == (coverage, silent)
    page = reports.report(analysis.review, analysis.tables)
    shown = re.sub(r"<script.*?</script>|<[^>]+>", " ", page, flags=re.DOTALL)
    for text in (reports.text(analysis.review, analysis.tables), shown):
        for phrase in (*EVERYONE, *(phrase for claim in silent for phrase in SAID[claim])):
            assert phrase not in text, phrase
        assert f"{len(ranks)} of 4" in text
        assert "Next: profile" in text or "Profile next" in text


@pytest.mark.parametrize("name", CAPTURED)
def test_what_these_ranks_cannot_know_is_withheld_with_the_reason(name: str, traces: Path) -> None:
    ranks, _, silent = CAPTURED[name]
    review = to_builtins(reviewed(traces, ranks))
    withheld = {item["metric"] for item in review["quality"]["withheld"]}
    for claim in silent:
        for field in CLAIMS[claim].fields:
            section, _, inner = field.partition(".")
            value = review[section] if not inner or review[section] is None else review[section][inner]
            assert value in (None, []), field
        assert withheld & {*CLAIMS[claim].fields, *(field.partition(".")[0] for field in CLAIMS[claim].fields)}
    if "bubble" not in silent:
        assert review["bubble"]["measured_share"] is not None
        assert review["bubble"]["stages"]
    if "loads of a group" not in silent:
        assert review["all_to_all"]["rank_load_max_over_mean"] is not None
        assert review["all_to_all"]["imbalance_cost_ms"] is not None


def test_a_claim_is_silenced_whatever_was_measured(traces: Path) -> None:
    """The table is the last gate: figures of all ranks under the coverage of one."""
    everyone, alone = reviewed(traces, None), reviewed(traces, [1])
    assert everyone.bubble is not None
    assert alone.sample is not None
    silent = supported(everyone.bubble, "bubble", alone.sample)
    assert silent is not None
    assert (everyone.bubble.measured_share is None, silent.measured_share, silent.stages) == (False, None, [])
    assert supported(everyone.bubble, "bubble", everyone.sample or alone.sample) == everyone.bubble


def test_the_forbidden_sentences_are_said_where_all_ranks_are_here(traces: Path) -> None:
    """Otherwise their absence above would prove nothing."""
    text = reports.text(reviewed(traces, None), {})
    said = {phrase for phrases in (*SAID.values(), EVERYONE) for phrase in phrases if phrase in text}
    assert {"The bubble takes", "The fullest rank", "held up by", "Where the time of the ranks went"} <= said
    assert "Next:" not in text


def test_a_pipeline_with_replicas_says_both_and_of_which_ranks(traces: Path) -> None:
    review = reviewed(traces, [0, 1, 2])
    assert any(
        each.startswith("3 of 4 ranks: 1 whole pipeline and 1 whole expert group.")
        for each in review.headline.sentences
    )
    bubble, load = (review.figures[name] for name in ("bubble.measured_share", "all_to_all.rank_load_max_over_mean"))
    assert (bubble.scope, bubble.num_ranks, load.scope) == ("pipeline", 2, "group")


def test_a_sample_says_what_it_stands_for(traces: Path) -> None:
    pipeline = reviewed(traces, [0, 2])
    assert any(each.startswith("2 of 4 ranks: 1 whole pipeline.") for each in pipeline.headline.sentences)
    assert pipeline.bubble is not None
    assert pipeline.bubble.measured_share is not None
    group = reviewed(traces, [0, 1])
    assert any(each.startswith("2 of 4 ranks: 1 whole expert group.") for each in group.headline.sentences)
    assert group.bubble is None
    assert group.all_to_all is not None
    assert group.all_to_all.rank_load_max_over_mean is not None


def test_a_lone_rank_gives_its_first_screen_and_what_comes_next(
    traces: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["analyze", str(traces), "--ranks", "1", "--steps", "1-2"]) == 0
    output = capsys.readouterr().out
    assert "Rank 1 (stage 0 of 2; 1 of 4 ranks) computes for" in output
    assert "Between its chunks" in output
    assert re.search(r"[\d.]+ m?s to [\d.]+ m?s of that is waiting \(an estimate", output)
    assert re.search(r"withheld: Bubble: no pipeline was captured with all its ranks", output)


@pytest.mark.parametrize("option", [["--ranks", "a"], ["--ranks", "3-1"], ["--steps", "0-99999999"], ["--ranks", "77"]])
def test_an_invalid_choice_is_refused_in_one_line(
    option: list[str], traces: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["analyze", str(traces), *option]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 2  # the fact, and the remedy


@pytest.mark.corpus
@pytest.mark.parametrize(
    "name", ["deepseek-dualpipe-h800/train.json.gz", "singles-h100/Qwen_Qwen1.5-0.5B-Chat__1016005.json.gz"]
)
def test_single_traces_of_others_give_a_first_screen_without_flags(name: str, corpus: Path) -> None:
    analysis = analyze(read(corpus / name))
    text = reports.text(analysis.review, analysis.tables)
    assert re.match(r"(! .*\n)*\n?(Rank 0 \(|The only rank)", text)
    for needed in (r"of a step of [\d.]+ ms", "computes for", "withheld: Bubble", "Next: "):
        assert re.search(needed, text), needed
    assert not any(
        phrase in text
        for phrase in [phrase for claim in ("bubble", "who is slow", "loads of a group") for phrase in SAID[claim]]
    )
