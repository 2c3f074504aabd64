"""The page of one captured rank of several."""

from __future__ import annotations

import re

import pytest
from planted import Faults, Job, plant

from reports import report, text
from reports.review_page import review_page
from traceanalyzer.analysis.assemble import Analysis, analyze, read

JOB = Job(pp=3, dp=1, num_microbatches=5, num_steps=2)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Analysis:
    traces = plant(JOB, Faults(), tmp_path_factory.mktemp("planted")).traces
    return analyze(read(traces, ranks=[1]))


def test_the_page_tells_what_the_rank_answers_and_which_rank_comes_next_once(alone: Analysis) -> None:
    made = report(alone.review, alone.tables)
    verdict = re.sub("<[^>]*>", " ", made[made.index('class="verdict"') : made.index("What this rank answers")])
    assert "What this rank answers, and what it leaves open" in made
    assert "Next:" not in verdict
    assert re.search(r"Next:|profile rank", made[made.index("What this rank answers") :])
    shown = re.sub(r"(?s)<script.*?</script>", "", made)
    for empty in ("undefined", "no value and no reason", "neither a value nor a reason", ">nan<", ">None<"):
        assert empty not in shown


def test_the_terminal_tells_it_in_the_verdict(alone: Analysis) -> None:
    page = review_page(alone.review, alone.tables)
    assert page.following
    assert not set(page.following) & set(page.verdict)
    shown = text(alone.review, alone.tables)
    assert all(sentence in shown for sentence in (*page.verdict, *page.following))
