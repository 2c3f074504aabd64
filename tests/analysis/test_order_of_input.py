"""Names of files, which rank lies in which, and the order of events change nothing in review.json."""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from inputs.tiny_trace import run_of
from msgspec import to_builtins
from planted import Faults, Job, plant

from traceanalyzer.analysis.assemble import analyze, read

Documents = Sequence[dict[str, Any]]
JOBS = {
    "labelled, two pipelines, a straggler, clocks apart": (
        Job(pp=2, dp=2, num_microbatches=4),
        Faults(slow_compute={3: 1.3}, clock_offset_ns={1: 3_000_000}),
    ),
    "unlabelled, coalesced": (Job(pp=3, labels=None, coalesced=True, num_microbatches=4), Faults()),
    "unlabelled, interleaved": (
        Job(pp=2, schedule="Interleaved1F1B", num_chunks=2, labels=None, num_microbatches=4),
        Faults(),
    ),
    "experts, a hot one": (Job(pp=1, dp=4, ep=4, moe_layers=2, moe_hot_share=0.4, num_microbatches=2), Faults()),
    "a rank's trace lacks its head": (Job(pp=2, num_microbatches=4), Faults(head_cut_ns={1: 3_000_000})),
}


def review_of(documents: Documents, folder: Path, random_order: random.Random | None) -> bytes:
    """The review of a run written to `folder`, shuffled if an order is given, without paths and times."""
    folder.mkdir(parents=True)
    files = list(range(len(documents)))
    if random_order is not None:
        random_order.shuffle(files)
    for name, number in enumerate(files):
        document = dict(documents[number])
        if random_order is not None:
            document["traceEvents"] = random_order.sample(document["traceEvents"], len(document["traceEvents"]))
        (folder / f"trace{name}.json").write_text(json.dumps(document))
    review = to_builtins(analyze(read(folder)).review)
    for file in (*review["files"], *review["quality"]["defects"]):
        file["file"] = ""
    review |= {"created": "", "source": {}}
    return json.dumps(review).replace(str(folder), "").encode()


@pytest.mark.sweep(1)
@pytest.mark.parametrize("name", JOBS)
def test_shuffled_traces_of_devices_give_the_same_review(name: str, tmp_path: Path) -> None:
    planted = plant(*JOBS[name], tmp_path / "planted")
    documents = [json.loads(gzip.decompress(path.read_bytes())) for path in sorted(planted.traces.iterdir())]
    expected = review_of(documents, tmp_path / "straight", None)
    assert review_of(documents, tmp_path / "shuffled", random.Random(name)) == expected  # noqa: S311 - repeatable


LENGTHS = st.lists(st.integers(5, 30), min_size=3, max_size=3)


@pytest.mark.wide
@settings(max_examples=5, phases=[Phase.explicit, Phase.reuse, Phase.generate])  # shrinking would take minutes
@given(forwards=LENGTHS, backwards=LENGTHS, order=st.randoms(use_true_random=False))
def test_shuffled_traces_of_cpus_give_the_same_review(
    forwards: list[int],
    backwards: list[int],
    order: random.Random,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = tmp_path_factory.mktemp("run")
    at, lines = 0, []
    for length in forwards:
        lines.append(f"{len(lines)}F0@{at}-{at + length}")
        at += length
    for stage, length in reversed(list(enumerate(backwards))):
        lines[stage] += f" {stage}B0@{at}-{at + length}"
        at += length
    run_of(folder / "run", lines, step_us=at + 10)
    documents = [json.loads(path.read_text()) for path in sorted((folder / "run" / "traces").iterdir())]
    expected = review_of(documents, folder / "straight", None)
    assert review_of(documents, folder / "shuffled", order) == expected
