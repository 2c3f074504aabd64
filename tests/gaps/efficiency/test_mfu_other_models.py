"""MFU where no model is known: from declared FLOPs, in options or a file, and from the recorded shapes of all devices."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from traceanalyzer.analysis.assemble import analyze, read, with_declaration
from traceanalyzer.errors import InputError, UsageError
from traceanalyzer.options.declaration import declaration
from traceanalyzer.options.job_file import read_job_file
from traceanalyzer.review import Review

M, K, N = 1024, 1024, 512
GEMM = 2 * M * K * N
STEP_US = 100
PEAK = 989.4e12


def trace(folder: Path, world: int = 1, *, gemms: int = 3, again: bool = False, unknown: bool = False) -> Path:
    """Two steps on H200s; in each a multiplication forward and `gemms - 1` in autograd's backward."""
    folder.mkdir()
    for rank in range(world):
        events = [event for step in range(2) for event in _step(step, gemms, again=again, unknown=unknown)]
        properties = [{"id": 0, "name": "NVIDIA H200", "numSms": 132}]
        document = {
            "deviceProperties": properties, "distributedInfo": {"rank": rank, "world_size": world, "backend": "nccl"},
            "traceEvents": events,
        }  # fmt: skip
        (folder / f"rank{rank}.json.gz").write_bytes(gzip.compress(json.dumps(document).encode()))
    return folder


def _step(step: int, gemms: int, *, again: bool, unknown: bool) -> list[dict[str, Any]]:
    start = step * STEP_US
    rows = [_event("user_annotation", f"ProfilerStep#{step}", start, STEP_US - 1)]
    backward = _event("cpu_op", "autograd::engine::evaluate_function: MmBackward0", start + 20, 60)
    rows.append(backward)
    for index in range(gemms):
        at = start + 5 if index == 0 else start + 22 + 10 * index
        inside = index > 0 and not (again and index == 1)
        args: dict[str, Any] = {"Input Dims": [[M, K], [K, N]], "Input type": ["c10::BFloat16"] * 2}
        args |= {} if inside else {"Fwd thread id": 0, "Sequence number": index}
        correlation = 1 + step * 50 + index
        rows += [
            _event("cpu_op", "aten::mm", at, 6, **args),
            _event("cuda_runtime", "cudaLaunchKernel", at + 1, 2, correlation=correlation),
            _event("kernel", "nvjet_tst_128x256", at + 4, 9, lane=7, correlation=correlation, stream=7),
        ]
    if unknown:
        rows += [
            _event("cuda_runtime", "cudaLaunchKernel", start + 82, 2, correlation=900 + step),
            _event("kernel", "my_exchange_kernel", start + 85, 10, lane=9, correlation=900 + step, stream=9),
        ]
    return rows


def _event(category: str, name: str, start: int, duration: int, lane: int = 1, **args: Any) -> dict[str, Any]:
    where = (0, lane) if category == "kernel" else (1, 1)
    return {
        "ph": "X",
        "cat": category,
        "name": name,
        "pid": where[0],
        "tid": where[1],
        "ts": start,
        "dur": duration,
        "args": args,
    }


def reviewed(folder: Path, **given: Any) -> Review:
    return analyze(with_declaration(read(folder), declaration(**given))).review


def test_flops_declared_per_token_and_per_step(tmp_path: Path) -> None:
    folder = trace(tmp_path / "run", world=2)
    by_token = reviewed(folder, flops_per_token=3e6, tokens_per_step=2000, dtype="bf16").mfu
    by_step = reviewed(folder, flops_per_step=6e9, dtype="bf16").mfu
    assert by_token.mfu == by_step.mfu
    step_s = 6e9 / (2 * PEAK * (by_step.mfu or 0))
    assert 0.4 * STEP_US < step_s * 1e6 < 1.5 * STEP_US
    assert (by_token.convention, by_token.flops_per_token, by_step.flops_per_token) == ("declared", 3e6, None)
    assert by_token.conventions == []


def test_what_declared_flops_lack_is_named(tmp_path: Path) -> None:
    review = reviewed(trace(tmp_path / "run"), flops_per_token=3e6)
    (reason,) = [item.reason for item in review.quality.withheld if item.metric == "mfu.mfu"]
    assert reason == "not known without run.json: tokens per step (--tokens-per-step)"
    with pytest.raises(UsageError, match="per token and per step"):
        declaration(flops_per_token=1.0, flops_per_step=1.0)


def test_a_job_file_states_flops(tmp_path: Path) -> None:
    file = tmp_path / "job.yaml"
    file.write_text("flops_per_step: 6.0e+9\n")
    assert read_job_file(str(file)).flops_per_step == 6e9
    file.write_text("model_type: never_seen\nhidden_size: 3\nflops_per_token: 5000\n")
    declared = declaration(job_file=str(file))
    assert declared.flops is not None
    assert (declared.flops.per_token, declared.model) == (5000, None)
    for text, message in [("flops_per_step: many", "flops_per_step is 'many'"), ("flops_per_token: -1", "is -1")]:
        file.write_text(text)
        with pytest.raises(InputError, match=message):
            read_job_file(str(file))
    file.write_text("flops_per_step: 1\nflops_per_token: 1\n")
    with pytest.raises(InputError, match="states flops_per_token and flops_per_step"):
        read_job_file(str(file))


def test_recorded_shapes_of_all_devices_are_the_steps_flops(tmp_path: Path) -> None:
    whole = reviewed(trace(tmp_path / "whole", world=2), dtype="bf16").mfu
    assert whole.convention == "recorded_shapes"
    assert whole.flops_per_step == 2 * 3 * GEMM
    assert whole.mfu is not None
    part = tmp_path / "part"
    (trace(part, world=2) / "rank1.json.gz").unlink()
    assert reviewed(part, dtype="bf16").mfu.flops_per_step is None


def test_recorded_shapes_with_recomputation_are_no_model_flops(tmp_path: Path) -> None:
    review = reviewed(trace(tmp_path / "run", gemms=4, again=True), dtype="bf16")
    assert review.mfu.mfu is None
    (reason,) = [item.reason for item in review.quality.withheld if item.metric == "mfu.mfu"]
    assert "how much of that is recomputed is not known" in reason


def test_a_part_that_is_not_counted_is_reported_first(tmp_path: Path) -> None:
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"model_type": "t5", "d_model": 16, "num_layers": 1, "vocab_size": 50}))
    folder = trace(tmp_path / "run")
    given = {"job_file": str(config), "tokens_per_step": 10, "sequence_length": 10, "dtype": "bf16"}
    assert any("leave out a difference in length" in line for line in reviewed(folder, **given).warnings)
    assert not any("leave out" in line for line in reviewed(folder, flops_per_step=1e9, dtype="bf16").warnings)


def test_rules_from_a_file_turn_an_unknown_name_into_communication(tmp_path: Path) -> None:
    folder = trace(tmp_path / "run", unknown=True)
    unknown = reviewed(folder)
    assert any("my_exchange_kernel 27.0%" in line for line in unknown.warnings)
    rules = tmp_path / "rules.csv"
    rules.write_text("pattern,kind,operation\nmy_exchange,communication,all_to_all\n")
    known = reviewed(folder, kernel_rules=str(rules))
    assert not any("my_exchange" in line for line in known.warnings)
    owners = [{item.owner for item in review.accounting.owners} for review in (unknown, known)]
    assert not {"communication", "wait", "transfer"} & owners[0]
    assert {"communication", "wait", "transfer"} & owners[1]
