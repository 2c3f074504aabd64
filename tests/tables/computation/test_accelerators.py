"""Device events of accelerators that name them in their own way: read where they carry streams and launches."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from traceanalyzer.analysis.assemble import Analysis, analyze, read

BASE_NS = 1_795_000_000_000_000_000
STEP, NUM, LENGTH = 4000, 5, 300
"""Steps of 4 ms with 5 kernels of 300 us each 700."""
SPAN = 3 * STEP + 700 * (NUM - 1) + LENGTH
"""From the first kernel of four steps to the end of the last."""


def _row(name: str, start: float, end: float, category: str | None, pid: int, tid: int, **args: Any) -> dict[str, Any]:
    row = {"ph": "X", "name": name, "pid": pid, "tid": tid, "ts": start, "dur": end - start, "args": args}
    return row if category is None else row | {"cat": category}


def _steps(count: int) -> list[dict[str, Any]]:
    return [_row(f"ProfilerStep#{n}", STEP * n, STEP * n + STEP - 5, "user_annotation", 31, 31) for n in range(count)]


def _named(pid: int, name: str) -> dict[str, Any]:
    return {"ph": "M", "name": "process_name", "pid": pid, "tid": 0, "args": {"name": name}}


def _flow(ph: str, number: str, at: float, pid: int, tid: int, kind: str) -> dict[str, Any]:
    return {"ph": ph, "bp": "e", "name": kind, "cat": kind, "id": number, "pid": pid, "tid": tid, "ts": at}


def mtia(*, correlated: bool = True, category: str = "mtia_ccp_events") -> list[dict[str, Any]]:
    rows = [_named(3, "MTIA 3"), *_steps(4)]
    for k in range(4 * NUM):
        launched, start = STEP * (k // NUM) + 20 + 60 * (k % NUM), STEP * (k // NUM) + 100 + 700 * (k % NUM)
        told = {"correlation": k + 1} if correlated else {}
        rows.append(
            _row(
                "runFunction - job_prep_and_submit_for_execution",
                launched,
                launched + 9,
                "mtia_runtime",
                31,
                31,
                correlation=k + 1,
            )
        )
        rows.append(_row("dma_request", start - 30, start + 5, category, 3, 6, stream=2, direction="HOST_TO_DEVICE"))
        rows.append(_row("fc-dtype_Half", start, start + LENGTH, category, 3, 6, stream=2, **told))
    return rows


def ascend(
    kinds: tuple[str, ...] = ("HostToDevice", "async_npu"), *, exchange: str | None = None
) -> list[dict[str, Any]]:
    rows = [_named(900, "Ascend Hardware"), _named(77, "CANN"), _named(55, "Overlap Analysis"), *_steps(4)]
    if exchange is not None:
        rows.append(_named(901, exchange))
    for k in range(4 * NUM):
        launched, start = STEP * (k // NUM) + 20 + 60 * (k % NUM), STEP * (k // NUM) + 100 + 700 * (k % NUM)
        on, of = (901, 2) if exchange is not None and k % NUM == 2 else (900, 11)
        name = "hcom_alltoallv__310_1_1" if on == 901 else "aclnnMatmul_MatMulCommon_MatMulV2"
        rows.append(_row(name, start, start + LENGTH, None, on, of, **{"Task Type": "AI_CORE", "connection_id": k}))
        rows.append(_row("EVENT_WAIT", start + LENGTH, start + 650, None, 900, 12, **{"Task Type": "EVENT_WAIT"}))
        rows.append(_row("Computing", start, start + LENGTH, None, 55, 0))
        for number, kind in enumerate(kinds):
            flow = str((number + 1 << 40) + k)
            rows.append(_flow("s", flow, launched, 77, 31, kind))
            rows.append(_flow("f", flow, start, on, of, kind))
    return rows


def xpu(*, stream: bool) -> list[dict[str, Any]]:
    rows = _steps(4)
    for k in range(4 * NUM):
        launched, start = STEP * (k // NUM) + 20 + 60 * (k % NUM), STEP * (k // NUM) + 100 + 700 * (k % NUM)
        told = {"stream": 4} if stream else {"sycl queue": "0x55"}
        rows.append(_row("urEnqueueKernelLaunch", launched, launched + 4, "xpu_runtime", 31, 31, correlation=k + 1))
        rows.append(_row("gemm_kernel", start, start + LENGTH, "kernel", 0, 4, device=0, correlation=k + 1, **told))
    return rows


def private() -> list[dict[str, Any]]:
    return [
        row | ({"cat": "privateuse1_runtime", "name": "aiuLaunch"} if row.get("cat") == "xpu_runtime" else {})
        for row in xpu(stream=False)
    ]


def analysed(folder: Path, rows: list[dict[str, Any]]) -> Analysis:
    document = {
        "schemaVersion": 1,
        "distributedInfo": {"rank": 0, "world_size": 1},
        "baseTimeNanoseconds": BASE_NS,
        "traceEvents": rows,
    }
    (folder / "rank0.json").write_text(json.dumps(document))
    return analyze(read(folder))


READ = {
    "MTIA": mtia(),
    "Ascend": ascend(),
    "Ascend without CANN": ascend(("async_npu",)),
    "XPU": xpu(stream=True),
    "XPU without streams": xpu(stream=False),
    "PrivateUse1": private(),
}


@pytest.mark.parametrize("name", READ)
def test_kernels_streams_and_launches_are_read(tmp_path: Path, name: str) -> None:
    found = analysed(tmp_path, READ[name])
    kernels = found.tables["kernels"].filter(pl.col("kind") != "copy")
    assert kernels.height == 4 * NUM
    assert kernels["stream"].n_unique() == 1
    assert kernels["stream"].null_count() == 0
    assert kernels["launch_start_ns"].null_count() == 0
    assert set(kernels["kind"].cast(pl.String)) == {"gemm"}
    assert (kernels["end_ns"] - kernels["start_ns"]).unique().to_list() == [LENGTH * 1000]  # none is cut
    shares = {row.owner: row.share for row in found.review.accounting.owners}
    assert shares["compute"] == pytest.approx(4 * NUM * LENGTH / SPAN)
    assert not any("match no rule" in line for line in found.review.warnings)
    assert found.review.quality.verdict == "complete"


@pytest.mark.parametrize("called", ["HCCL", "Communication"])
def test_exchanges_of_ascend_are_communication(tmp_path: Path, called: str) -> None:
    found = analysed(tmp_path, ascend(exchange=called))
    exchanged = found.tables["kernels"].filter(pl.col("kind") == "communication")
    assert exchanged.height == 4
    assert set(exchanged["operation"]) == {"all_to_all"}
    shares = {row.owner: row.share for row in found.review.accounting.owners}
    assert shares["compute"] == pytest.approx(4 * (NUM - 1) * LENGTH / SPAN)


UNREAD = {
    "MTIA": mtia(correlated=False),
    "Ascend": ascend(()),
    "Gaudi": [*_steps(2), _row("synLaunch", 10, 20, "hpu_op", 31, 31), _row("aten::mm", 5, 900, "cpu_op", 31, 31)],
}


@pytest.mark.parametrize("name", UNREAD)
def test_devices_without_streams_or_launches_are_refused_by_name(tmp_path: Path, name: str) -> None:
    review = analysed(tmp_path, UNREAD[name]).review
    assert name in review.headline.sentences[0]
    assert "not read" in review.headline.sentences[0]
    assert review.accounting.owners == []


@pytest.mark.parametrize("rows", [mtia(), xpu(stream=True), private()], ids=["MTIA", "XPU", "PrivateUse1"])
def test_launches_without_kernels_are_no_cpu_job(tmp_path: Path, rows: list[dict[str, Any]]) -> None:
    host = [row for row in rows if row.get("cat") not in ("kernel", "mtia_ccp_events")]
    review = analysed(tmp_path, [*host, _row("aten::mm", 5, 3900, "cpu_op", 31, 31)]).review
    assert "kernels were launched and none was recorded" in review.headline.sentences[0]
    assert review.accounting.owners == []
