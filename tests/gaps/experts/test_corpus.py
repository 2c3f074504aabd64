"""Expert parallelism in real third-party traces, against figures that were made apart from this project."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import polars as pl
import pytest

from traceanalyzer.analysis.assemble import Analysis, analyze, read
from traceanalyzer.measurements.experts.exposure import exposure
from traceanalyzer.tables.experts.directions import COMPUTE_KINDS

pytestmark = pytest.mark.corpus


def directions(analysis: Analysis) -> dict[str, int]:
    table = analysis.tables["collectives"].filter(pl.col("kind") == "all_to_all")
    return dict(table["direction"].cast(pl.String).value_counts().iter_rows())


def test_deep_ep_kernels_and_their_overlap(corpus: Path) -> None:
    """Reference: unions of exact integer intervals by another program, in nanoseconds.

    "transfer": dispatch and combine kernels against everything else on the device; "transfer+notify": these and the
    notify kernels against computation.
    """
    analysis = analyze(read(corpus / "deepseek-dualpipe-h800"))
    kernels = analysis.tables["kernels"].with_columns(pl.col("kind").cast(pl.String))
    exchanging = kernels.filter(pl.col("operation") == "all_to_all")
    waiting = kernels.filter(pl.col("kind") == "barrier")
    computing = kernels.filter(pl.col("kind").is_in(COMPUTE_KINDS))
    names = pl.col("name").cast(pl.String)
    assert exchanging.filter(names.str.contains("::dispatch")).height == 8
    assert exchanging.filter(names.str.contains("::combine")).height == 8
    assert waiting.filter(names.str.contains("notify")).height == waiting.height == 16
    assert directions(analysis) == {"dispatch": 8, "combine": 8}
    windows = analysis.tables["steps"]
    transfer = exposure(windows, exchanging, pl.concat([computing, waiting])).row(0, named=True)
    assert transfer["exchange_ns"] == 80_452_000
    assert (transfer["overlapped_ns"], transfer["exposed_ns"]) == (77_496_000, 2_956_000)
    both = exposure(windows, pl.concat([exchanging, waiting]), computing).row(0, named=True)
    assert (both["exchange_ns"], both["overlapped_ns"], both["exposed_ns"]) == (113_030_000, 108_868_000, 4_162_000)
    figures = analysis.review.all_to_all
    assert figures is not None
    assert figures.exposed_share == pytest.approx(4_162_000 / 129_012_000, rel=1e-3)
    assert figures.overlapped_share == pytest.approx(0.963178, abs=1e-6)
    assert figures.rank_load_max_over_mean is None
    assert figures.wait_share is None


def test_one_rank_of_a_moe_forward_shows_its_own_row_and_no_ratio(corpus: Path) -> None:
    analysis = analyze(read(corpus / "torchao-ep-moe-b200"))
    assert directions(analysis) == {"count_exchange": 10, "dispatch": 10, "combine": 10}
    sent = analysis.tables["traffic"].filter((pl.col("direction") == "dispatch") & (pl.col("source") == 0))
    assert sent["tokens"].unique().to_list() == [4096]
    assert set(sent["target"]) == {0, 1}
    figures = analysis.review.all_to_all
    assert figures is not None
    assert figures.rank_load_max_over_mean is None


def test_loads_of_an_unlabelled_gloo_run_equal_its_own_side_file(corpus: Path, tmp_path: Path) -> None:
    """The run names its ranges unlike ours and its backward not at all: everything comes from split sizes."""
    folder = corpus / "gloo-torch213"
    for path in folder.glob("moe_ep4_paced_rank*.json.gz"):
        shutil.copy(path, tmp_path)
    analysis = analyze(read(tmp_path))
    truth = {}
    for path in folder.glob("moe_ep4_paced_rank*.jsonl"):
        for line in path.read_text().splitlines():
            row = json.loads(line)
            truth[row["step"], row["layer"], row["rank"]] = (sum(row["in_splits"]), sum(row["out_splits"]))
    chain = analysis.tables["expert_chain"]
    assert chain.height == 3 * 2 * 4
    for step, layer, rank, sent, received in chain.select(
        "step", "layer", "rank", "sent_tokens", "received_tokens"
    ).iter_rows():
        assert (sent, received) == truth[step, layer, rank]
    figures = analysis.review.all_to_all
    assert figures is not None
    assert figures.slowest_rank == 0
    assert (figures.blame[0].culprit, analysis.tables["traffic"]["agrees"].drop_nulls().all()) == (0, True)


def test_late_ranks_of_dlrm_are_named_from_all_eight_traces(corpus: Path) -> None:
    """The ranks that spend least in communication (1.7 ms against up to 11 ms) are those the others wait for."""
    figures = analyze(read(corpus / "dlrm8-v100")).review.all_to_all
    assert figures is not None
    assert figures.slowest_rank == 7
    assert figures.rank_load_max_over_mean is None
    # Execution traces of ranks 0, 3 and 7 hold the split sizes: rank 0 sends 96 to 1664 elements (17.3 to 1).
    assert [(own.rank, own.num_ranks_known, own.num_ranks, own.scope) for own in figures.own_loads] == [
        (rank, 3, 8, "rank") for rank in (0, 3, 7)
    ]
    assert figures.own_loads[0].sent_max_over_min == pytest.approx(1664 / 96)
    assert figures.own_loads[0].sent_max_over_mean == pytest.approx(1664 * 8 / 3392)
    caused = [item for item in figures.blame if item.ms > 1]
    assert {item.culprit for item in caused} == {5, 7}


def test_the_straggler_of_a_four_rank_embedding_run_is_named(corpus: Path) -> None:
    """Rank 2 communicates 106 ms where the others take 205 to 229 ms."""
    figures = analyze(read(corpus / "torchrec-a2a-v100" / "run4")).review.all_to_all
    assert figures is not None
    assert figures.slowest_rank == 2
    assert figures.blame[0].culprit == 2
