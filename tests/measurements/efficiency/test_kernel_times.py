"""Kernel and communication tables against sums made by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest
from inputs.tiny_device import GEMM, TinyDevice

from reports import text as shown_text
from traceanalyzer.analysis.assemble import Analysis, analyze, read
from traceanalyzer.cli import main
from traceanalyzer.schema import TABLES

ALL_REDUCE = "ncclDevKernel_AllReduce_Sum_bf16_RING_LL(ncclDevKernelArgsStorage<4096ul>)"
OTHER = "void at::native::vectorized_elementwise_kernel<4, at::native::AddFunctor<float>>"
MIB = 1 << 20


def all_reduce(number: int) -> dict[str, Any]:
    """Arguments of an all-reduce of 1 MiB over two ranks."""
    return {
        "Collective name": "allreduce", "dtype": "BFloat16", "In msg nelems": MIB // 2, "Out msg nelems": MIB // 2,
        "Group size": 2, "Process Group Name": "3", "Process Group Description": "mesh_dp",
        "Process Group Ranks": "[0, 1]", "Seq": number,
    }  # fmt: skip


def job(folder: Path) -> Analysis:
    """Two ranks, two steps of 200 µs: three GEMMs of 20, 30 (two at once), an all-reduce of 50 half under the last."""
    for rank in (0, 1):
        trace = TinyDevice(rank=rank, world_size=2, process=40 + rank)
        for step in (1, 2):
            at = 1000 + 200 * step
            trace.step(step, at - 10, at + 190)
            trace.kernel(at, at + 20, launched=at - 9)  # 6 until the next launch: takes longer
            trace.kernel(at + 20, at + 50, launched=at - 3, stream=8)
            trace.kernel(at + 20, at + 50, launched=at + 10)
            trace.kernel(at + 60, at + 64, launched=at + 30, name=OTHER)  # 20 until the next launch: shorter
            late = 10 * rank  # rank 1 comes 10 later; both end together
            trace.communicate(
                at + 80 + late, at + 130, launched=at + 50, name=ALL_REDUCE, stream=20, **all_reduce(step)
            )
            trace.kernel(at + 105, at + 190, launched=at + 60, name=GEMM)
        trace.write(folder)
    return analyze(read(folder))


def test_classes_give_the_sum_and_the_union(tmp_path: Path) -> None:
    rows = {row["kind"]: row for row in job(tmp_path).tables["kernel_classes"].filter(pl.col("rank") == 0).to_dicts()}
    gemm = rows["gemm"]
    assert (gemm["num_kernels"], gemm["duration_ns"], gemm["union_ns"]) == (8, 2 * 165_000, 2 * 135_000)
    assert rows["communication"]["duration_ns"] == rows["communication"]["union_ns"] == 100_000
    assert gemm["share"] == pytest.approx(165 / (165 + 4 + 50))
    assert rows["other"]["launch_bound_share"] == 1
    # the last GEMM of step 1 takes 85 µs and its thread launches again after 131; that of step 2 has no next launch
    assert gemm["launch_bound_share"] == pytest.approx(1 / 7)


@pytest.mark.parametrize(("took", "bound"), [(3, 1.0), (420, None)])
def test_a_call_that_waits_for_its_kernel_does_not_make_it_launch_bound(
    tmp_path: Path, took: float, bound: float | None
) -> None:
    """Kernels of 400 µs on an idle device, launched every 600; with `took` of 420 every call ends after its kernel."""
    trace = TinyDevice().step(1, 0, 6100)
    for k in range(10):
        trace.event("cudaLaunchKernel", 10 + 600 * k, 10 + 600 * k + took, "cuda_runtime", correlation=900 + k)
        trace.kernel(15 + 600 * k, 415 + 600 * k, correlation=900 + k)
    trace.write(tmp_path)
    found = analyze(read(tmp_path)).review
    assert found.kernels is not None
    assert [row.launch_bound_share for row in found.kernels.classes] == [bound]
    sentence = next(line for line in found.headline.sentences if line.startswith("Matrix multiplications take"))
    assert ("launch-bound" in sentence) is (bound is not None)


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ((GEMM, "cudnn_winograd_fwd"), "Matrix multiplications and convolutions take"),
        ((OTHER, GEMM), "The kernel `sm90_xmma_gemm"),
    ],
)
def test_the_kernels_sentence_names_what_takes_longest(tmp_path: Path, names: tuple[str, str], said: str) -> None:
    """Per step 800 µs of the first name or, of plain kernels, 900 µs of two names, and 500 of the second."""
    plain = names[0] == OTHER
    trace = TinyDevice()
    for step in range(3):
        at = 3000 * step
        trace.step(step, at, at + 2990)
        for start, lasts, name in ((0, 450 if plain else 800, names[0]), (900, 500, names[1]), (1500, 450, names[0])):
            called = f"{OTHER}({start})" if name == OTHER else name
            trace.kernel(at + 50 + start, at + 50 + start + lasts, launched=at + 20 + start / 100, name=called)
    trace.write(tmp_path)
    assert any(line.startswith(said) for line in analyze(read(tmp_path)).review.headline.sentences)


def test_names_give_count_mean_and_extremes(tmp_path: Path) -> None:
    review = job(tmp_path).review
    assert review.kernels is not None
    top = review.kernels.top[0]
    assert (top.name, top.num_kernels, top.min_us, top.max_us) == (GEMM, 16, 20, 85)
    assert top.mean_us == pytest.approx(165 / 4)
    assert top.sum_ms == pytest.approx(0.165)


def test_groups_show_exposed_wait_transfer_and_bandwidth(tmp_path: Path) -> None:
    analysis = job(tmp_path)
    communication = analysis.review.communication
    assert communication is not None
    (group,) = communication.groups
    assert (group.dimension, group.group, group.num_ranks, group.num_ranks_captured) == ("world", "0,1", 2, 2)
    assert group.duration_ms == pytest.approx((0.050 + 0.040) / 2)
    assert (group.wait_ms, group.transfer_ms) == (pytest.approx(0.005), pytest.approx(0.040))
    assert group.exposed_ms == pytest.approx((0.025 + 0.015) / 2)  # until the last GEMM starts
    assert group.overlapped_share == pytest.approx(50 / 90)
    assert communication.overlapped_share == pytest.approx(50 / 90)
    assert group.bus_bandwidth_gbps == pytest.approx(MIB / 40e-6 / 1e9)  # 2(n-1)/n is 1 for two ranks
    (size,) = analysis.tables["bandwidths"].to_dicts()
    assert (size["kind"], size["from_bytes"], size["num_operations"]) == ("all_reduce", MIB, 4)


def test_the_summary_of_ranks_closes(tmp_path: Path) -> None:
    table = job(tmp_path).tables["rank_summary"]
    shares = [name for name in table.columns if name.endswith("_share")]
    assert table.select(pl.sum_horizontal(shares)).to_series().to_list() == pytest.approx([1, 1])
    assert table["num_kernels"].to_list() == [12, 12]


@pytest.mark.wide
def test_tables_have_the_schemas_columns_and_the_text_shows_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    analysis = job(tmp_path)
    for name in ("kernel_classes", "kernel_names", "communication_groups", "bandwidths", "rank_summary"):
        assert analysis.tables[name].schema == TABLES[name].schema
        assert main(["table", str(tmp_path), name, "--format", "csv"]) == 0
        assert len(capsys.readouterr().out.splitlines()) > 1
    text = " ".join(shown_text(analysis.review, analysis.tables).split())
    assert "Communication Under computation 55.6%" in text
    assert "By group, most exposed first dimension ranks captured" in text
    assert "world 2 2 45.0 µs 40.0 µs 5.00 µs 20.0 µs 55.6% 26.2" in text
    assert "launch-bound" in text


def test_ranks_without_device_have_no_kernel_section(tmp_path: Path) -> None:
    trace = TinyDevice(with_devices=False).step(1, 0, 50).event("aten::mm", 5, 30, "cpu_op")
    trace.write(tmp_path)
    review = analyze(read(tmp_path)).review
    assert review.kernels is None
    assert review.communication is None


def test_deepseeks_overlap_without_and_with_notify(corpus: Path) -> None:
    communication = analyze(read(corpus / "deepseek-dualpipe-h800")).review.communication
    assert communication is not None
    assert communication.overlapped_share == pytest.approx(0.963258, abs=1e-6)
    assert communication.overlapped_share_with_barriers == pytest.approx(0.963178, abs=1e-6)
