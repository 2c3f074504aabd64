"""Timelines of real third-party traces, read back: all ranks, every kernel, sums equal to the tables."""

from __future__ import annotations

from pathlib import Path

import pytest
from timeline_reader import read_timeline
from timeline_sums import check_timeline

from traceanalyzer.analysis.assemble import read
from traceanalyzer.perfetto.export import write_timeline
from traceanalyzer.perfetto.source import measured_source
from traceanalyzer.perfetto.window import Choice
from traceanalyzer.schema import result_tables

pytestmark = pytest.mark.corpus
SETS = {
    "deepseek-dualpipe-h800": 0,
    "megatron-tp2-v100": 1,
    "torchrec-a2a-v100/run4": 1,
    "straggler-op-table-ST/trace-ST.parquet": 1,
    "ascend": 0,
    "ddp-mi300": 0,
    "dlrm8-v100": 1,
    "gloo-torch213/dualpipev_rank2.json.gz": 0,
    "megatronapp-pp4-marks/data-1-pipeline-4-tensor-1-pp-aggregated-iter10.json.gz": 0,
    "mtia": 0,
    "nanogpt-h100/baseline": 0,
    "nanogpt-h100/hook": 0,
    "ns-resolution": 0,
    "singles-h100/gaunernst_bert-small-uncased__1016001.json.gz": 0,
    "singles-mi300/gaunernst_bert-small-uncased__1016001.json.gz": 0,
    "straggler-op-table-SE/trace-SE.parquet": 1,
    "torchrec-resnet18": 0,
}
"""Folders and files, each with whether ranks wait for each other in it."""


@pytest.mark.wide
@pytest.mark.sweep(2)
@pytest.mark.parametrize("name", SETS)
def test_the_timeline_has_the_sums_of_the_tables(name: str, corpus: Path, tmp_path: Path) -> None:
    source = measured_source(read(corpus / name), tmp_path / "result")
    write_timeline(source, Choice(), tmp_path / "a.pftrace", cpu=True)
    timeline = read_timeline(tmp_path / "a.pftrace")
    check_timeline(timeline, {table: source.whole(table) for table in result_tables()})
    assert (len(timeline.flows) > 0) >= SETS[name]
