"""FLOPs of recorded operators: by hand, on a real trace, and against the declared job on a real training step."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest

from traceanalyzer.measurements.efficiency.shape_flops import ATTENTION, FACTORS, flops_by_step, shape_flops
from traceanalyzer.model_configs import read_model_config
from traceanalyzer.schema import EVENTS, conform
from traceanalyzer.tables.steps.windows import step_ranges
from traceanalyzer.theory.model.flops import Convention, flops_per_token
from traceanalyzer.traces.read import read_traces


def operator(name: str, dims: list[list[int]], start: int, duration: int = 10, **more: object) -> dict[str, object]:
    args = {"Input Dims": dims, "Input type": ["c10::BFloat16"] * len(dims), **more}
    return {
        "name": name, "category": "cpu_op", "ph": "X", "start_ns": start, "duration_ns": duration, "args": json.dumps(args)
    }  # fmt: skip


def events(*rows: dict[str, object]) -> pl.DataFrame:
    place = {"rank": 0, "cycle": 0, "thread": "1", "process": "1"}
    return conform(pl.DataFrame([place | {"index": index} | row for index, row in enumerate(rows)]), EVENTS)


def found(*rows: dict[str, object]) -> list[tuple[object, ...]]:
    return shape_flops(events(*rows)).select("name", "kind", "flops", "causal_flops").rows()


CAUSAL = {"Concrete Inputs": ["", "", "", "0.", "True"]}


@pytest.mark.parametrize(
    ("name", "dims", "flops"),
    [
        ("aten::mm", [[3, 5], [5, 7]], 2 * 3 * 5 * 7),
        ("aten::addmm", [[7], [3, 5], [5, 7], [], []], 2 * 3 * 5 * 7),
        ("aten::bmm", [[2, 3, 5], [2, 5, 7]], 2 * 2 * 3 * 5 * 7),
        ("aten::baddbmm", [[2, 3, 7], [2, 3, 5], [2, 5, 7], [], []], 2 * 2 * 3 * 5 * 7),
        ("aten::_scaled_mm", [[3, 5], [5, 7], [], []], 2 * 3 * 5 * 7),
        # Four experts: 30 tokens of any split, weights 5 x 7 each; then the weights' gradient; then ragged columns.
        ("aten::_grouped_mm", [[30, 5], [4, 5, 7], [4], [], []], 2 * 30 * 5 * 7),
        ("aten::_grouped_mm", [[5, 30], [30, 7], [4], [], []], 2 * 30 * 5 * 7),
        ("aten::_grouped_mm", [[4, 7, 5], [5, 30], [4], [], []], 2 * 30 * 5 * 7),
        ("aten::mm", [[0, 5], [5, 7]], 0),
    ],
)
def test_multiplications(name: str, dims: list[list[int]], flops: int) -> None:
    assert found(operator(name, dims, 0)) == [(name, "gemm", flops, flops)]


def test_attention_forward_and_backward() -> None:
    query, key, value = [2, 4, 6, 8], [2, 2, 10, 8], [2, 2, 10, 12]
    whole = 2 * 2 * 4 * 6 * 10 * (8 + 12)
    backward = {"Concrete Inputs": [""] * 6 + ["0.", "True"]}
    rows = found(
        operator("aten::_scaled_dot_product_flash_attention", [query, key, value, [], []], 0, **CAUSAL),
        operator("aten::_scaled_dot_product_flash_attention", [query, key, value, [], []], 20),
        operator(
            "aten::_scaled_dot_product_flash_attention_for_cpu_backward", [query, query, key, value], 40, **backward
        ),
    )
    assert [row[1:] for row in rows] == [
        ("attention", whole, whole // 2),
        ("attention", whole, whole),
        ("attention", 2 * whole, whole),
    ]


def test_nested_operators_count_once() -> None:
    dims = [[3, 5], [5, 7]]
    query = [2, 4, 6, 8]
    rows = found(
        operator("aten::_grouped_mm", [[30, 5], [2, 5, 7]], 0, 100),  # its fallback multiplies expert by expert
        operator("aten::mm", dims, 10, 20),
        operator("aten::mm", dims, 40, 20),
        operator("custom::fp8_gemm", dims, 200, 50),  # a wrapper around a readable one
        operator("aten::_scaled_mm", dims, 210, 10),
        operator("aten::_scaled_dot_product_flash_attention", [query, query, query], 300, 50),
        operator("aten::_flash_attention_forward", [query, query, query], 310, 20),
        operator("flash_attn_3::_flash_attn_forward", [query], 400, 50),
        operator("flash_attn_3::fwd_flash_attn", [query], 410, 20),
    )
    assert [(name, kind) for name, kind, *_ in rows] == [
        ("aten::_grouped_mm", "gemm"),
        ("aten::_scaled_mm", "gemm"),
        ("aten::_scaled_dot_product_flash_attention", "attention"),
        ("flash_attn_3::_flash_attn_forward", "unread"),
    ]


def test_what_cannot_be_read_is_said() -> None:
    rows = found(
        operator("aten::mm", [], 0),
        {"name": "aten::mm", "category": "cpu_op", "ph": "X", "start_ns": 20, "duration_ns": 5, "args": None},
        operator("aten::bmm", [[], [2, 5, 7]], 40),
        operator("aten::_scaled_dot_product_flash_attention", [[2, 3], [2, 3], [2, 3]], 60),
        operator("autograd::engine::evaluate_function: LinearWithGradAccumulationBackward", [], 80),
        operator("_LayerNormLinear", [], 100),
    )
    assert [row[1:] for row in rows] == [("unread", None, None)] * 5
    nothing = shape_flops(events(operator("aten::add", [[3], [3]], 0)))
    assert nothing.is_empty()


def test_sums_by_step() -> None:
    step = {"category": "user_annotation", "ph": "X", "duration_ns": 100}
    table = events(
        step | {"name": "ProfilerStep#3", "start_ns": 0},
        step | {"name": "ProfilerStep#4", "start_ns": 100},
        operator("aten::mm", [[3, 5], [5, 7]], 10),
        operator("aten::mm", [[1, 1], [1, 1]], 99, 1),
        operator("aten::mm", [[3, 5], [5, 7]], 100),
        operator("_Linear", [], 150),
        operator("aten::mm", [[3, 5], [5, 7]], 500),  # after the last step
    )
    assert flops_by_step(shape_flops(table), step_ranges(table)).rows() == [
        (0, 3, 212, 212, 2, 0),
        (0, 4, 210, 210, 1, 1),
    ]


def test_a_rank_without_step_ranges_has_one_step() -> None:
    table = events(operator("aten::mm", [[3, 5], [5, 7]], 10), operator("aten::mm", [[3, 5], [5, 7]], 50))
    assert flops_by_step(shape_flops(table), step_ranges(table)).rows() == [(0, 0, 420, 420, 2, 0)]


def test_least_traffic() -> None:
    bfloat, fp8 = "c10::BFloat16", "c10::Float8_e4m3fn"
    rows = [
        ("aten::mm", [[3, 5], [5, 7]], bfloat, 2 * (15 + 35 + 21)),
        ("aten::_scaled_mm", [[3, 5], [5, 7]], fp8, 15 + 35 + 2 * 21),
        ("aten::bmm", [[2, 3, 5], [2, 5, 7]], "float", 4 * (30 + 70 + 42)),
        ("aten::_grouped_mm", [[30, 5], [4, 5, 7]], bfloat, 2 * (150 + 140 + 210)),
        ("aten::_grouped_mm", [[5, 30], [30, 7]], bfloat, None),  # the number of groups is not recorded
        ("aten::_grouped_mm", [[4, 7, 5], [5, 30]], bfloat, 2 * (140 + 150 + 210)),
        ("aten::_scaled_dot_product_flash_attention", [[2, 3, 4, 8]] * 3, bfloat, 2 * 4 * 192),
        ("aten::_scaled_dot_product_flash_attention_backward", [[2, 3, 4, 8]] * 4, bfloat, 2 * 8 * 192),
        ("aten::mm", [[3, 5], [5, 7]], "some_new_type", None),
    ]
    table = events(
        *[
            operator(name, dims, 20 * i, **{"Input type": [dtype] * len(dims)})
            for i, (name, dims, dtype, _) in enumerate(rows)
        ]
    )
    assert shape_flops(table)["bytes"].to_list() == [row[-1] for row in rows]
    assert shape_flops(table)["shape"][0] == "3x5 5x7"


@pytest.mark.corpus
def test_a_forward_pass_on_an_h100(corpus: Path) -> None:
    traces = read_traces(corpus / "singles-h100" / "Qwen_Qwen1.5-0.5B-Chat__1016005.json.gz")
    table = shape_flops(traces.events)
    qwen = {
        "model_type": "qwen2",
        "hidden_size": 1024,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "intermediate_size": 2816,
        "vocab_size": 151936,
        "tie_word_embeddings": True,
    }
    shape = read_model_config(qwen)
    batch, length = 16, 559
    rotary = 2 * 32 * 559  # a product of frequencies and positions
    for convention, column in ((Convention.FULL_ATTENTION, "flops"), (Convention.EXACT_CAUSAL, "causal_flops")):
        ours = flops_per_token(shape, length, convention)
        assert table[column].sum() == (ours.forward - ours.logits) * batch * length + rotary  # the base model


@pytest.mark.runs
def test_positions_are_those_of_the_operators_schemas() -> None:
    torch = pytest.importorskip("torch")

    def arguments(name: str) -> list[str]:
        operator_ = getattr(torch.ops.aten, name.removeprefix("aten::"))
        return [argument.name for argument in operator_.default._schema.arguments]

    for name, (first, causal) in ATTENTION.items():
        names = arguments(name)
        assert (names[first : first + 3], names[causal]) == (["query", "key", "value"], "is_causal")
    for name, position in FACTORS.items():
        first, second = arguments(name)[position : position + 2]
        assert (first, second) in {("self", "mat2"), ("mat1", "mat2"), ("batch1", "batch2")}


@pytest.mark.sweep(1)
@pytest.mark.runs
@pytest.mark.parametrize("name", ["gpt", "llama", "moe", "mla"])
def test_a_recorded_training_step_is_the_declared_job(name: str, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    plain_models = pytest.importorskip("plain_models")
    shape, batch, length, num_steps = plain_models.SHAPES[name], 2, 24, 2
    model = plain_models.Model(shape)
    profiler = torch.profiler
    with profiler.profile(
        activities=[profiler.ProfilerActivity.CPU],
        schedule=profiler.schedule(wait=1, warmup=1, active=num_steps),
        on_trace_ready=lambda recorded: recorded.export_chrome_trace(str(tmp_path / "rank0.json")),
        record_shapes=True,
    ) as recording:
        for _ in range(2 + num_steps):
            model(torch.zeros(batch, length, dtype=torch.long)).backward()
            recording.step()
    events_read = read_traces(tmp_path).events
    by_step = flops_by_step(shape_flops(events_read), step_ranges(events_read))
    declared = flops_per_token(shape, length, Convention.FULL_ATTENTION).total * batch * length
    assert by_step["flops"].to_list() == [declared] * num_steps
    assert by_step["num_unread"].sum() == 0
    if name != "mla":  # its heads of two sizes have no fused kernel on a CPU, so nothing tells that a mask was causal
        causal = flops_per_token(shape, length, Convention.EXACT_CAUSAL).total * batch * length
        assert by_step["causal_flops"].to_list() == [causal] * num_steps
