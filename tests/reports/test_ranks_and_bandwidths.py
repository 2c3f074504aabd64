"""The tables of ranks and of bus bandwidths: the terminal and the page show the figures of the result's tables."""

from __future__ import annotations

from pathlib import Path

import polars as pl
from planted import Faults, Job, plant

from reports import report, text
from traceanalyzer.analysis.assemble import analyze, read
from traceanalyzer.review.words import byte_count, digits, percent


def test_the_terminal_and_the_page_show_the_tables_of_ranks_and_bandwidths(tmp_path: Path) -> None:
    planted = plant(Job(pp=1, dp=3, num_microbatches=2), Faults(slow_compute={2: 1.3}), tmp_path)
    analysis = analyze(read(planted.traces))
    shown = [line.split("  ") for line in text(analysis.review, analysis.tables).splitlines()]
    lines = [[cell.strip() for cell in line if cell.strip()] for line in shown]
    page = report(analysis.review, analysis.tables)
    shares = ("compute_share", "wait_share", "transfer_share", "host_share")
    ranks = analysis.tables["rank_summary"]
    assert ranks["rank"].to_list() == [0, 1, 2]
    for row in ranks.iter_rows(named=True):
        cells = [str(row["rank"]), *(percent(row[name]) for name in shares)]
        assert any(line[:5] == cells for line in lines)
        assert all(cell in page for cell in cells)
    sizes = analysis.tables["bandwidths"].filter(pl.col("bus_bytes_per_second") > 0)
    assert sizes.height > 0
    for row in sizes.iter_rows(named=True):
        cells = [byte_count(row["mean_bytes"]), f"{digits(row['bus_bytes_per_second'] / 1e9)} GB/s"]
        assert any(set(cells) <= set(line) for line in lines)
        assert all(cell in page for cell in cells)
