"""FLOPs per token: against a reference table, brute force, published formulas and the laws they must obey."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from traceanalyzer.errors import DomainError, UsageError
from traceanalyzer.model import LatentAttention, ModelShape
from traceanalyzer.model_configs import find_preset
from traceanalyzer.theory.model.flops import (
    Convention,
    Recompute,
    flops_per_token,
    layer_flops_per_token,
    stage_flops_per_token,
)
from traceanalyzer.theory.model.parameters import parameters

DATA = Path(__file__).parents[1] / "data"

TINY = ModelShape(
    num_layers=1, hidden_size=4, num_heads=2, num_kv_heads=1, head_size=3, ffn_size=5, vocab_size=7, gated_mlp=True
)


def rows(name: str) -> list[dict[str, str]]:
    lines = (DATA / name).read_text().splitlines()
    return list(csv.DictReader(line for line in lines if not line.startswith("#")))


def reference_shape(model: str) -> ModelShape:
    shape = find_preset(model).shape
    if model != "gpt-3-175b":
        return shape
    norm_biases_and_positions = (2 * 96 + 1) * 12288 + 2048 * 12288
    return replace(shape, vocab_size=51200, extra_parameters=norm_biases_and_positions)


REFERENCE = rows("flops_per_token.csv")
CONVENTIONS = [convention for convention in Convention if convention.value in REFERENCE[0]]


# What torchtitan's rule adds to the reference: it counts these parameters, the reference's author left them out.
LEFT_OUT = {"deepseek-v3": 61 * (1536 + 512), "gpt-3-175b": 2048 * 12288}  # norms in latent attention; positions


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_reference_table_is_met_exactly(convention: Convention) -> None:
    differences = {}
    for row in REFERENCE:
        total = flops_per_token(reference_shape(row["model"]), int(row["sequence_length"]), convention).total
        if convention in (Convention.TORCHTITAN, Convention.TORCHTITAN_2024):
            total -= 6 * LEFT_OUT.get(row["model"], 0)
        if total != int(row[convention.value]):
            differences[row["model"], row["sequence_length"]] = total - int(row[convention.value])
    assert differences == {}
    assert len(REFERENCE) == 50


def test_every_convention_is_in_the_reference() -> None:
    assert set(CONVENTIONS) == set(Convention)


def test_reference_parameters() -> None:
    for row in REFERENCE:
        count = parameters(reference_shape(row["model"]))
        found = (count.total, count.matmul_active + count.embedding, count.matmul_active)
        assert found == (int(row["parameters"]), int(row["active_without_norms"]), int(row["matmul_active"]))


def test_one_layer_by_hand() -> None:
    flops = flops_per_token(TINY, 10, Convention.FULL_ATTENTION)
    assert flops.by_part() == {
        "attention_projections": 2 * (4 * 6 + 2 * 4 * 3 + 6 * 4),  # queries, keys and values, output
        "core_attention": 2 * (2 * 2 * 3 * 10),  # scores and their product with the values, 10 keys
        "mlp": 2 * 3 * 4 * 5,
        "logits": 2 * 4 * 7,
    }
    assert (flops.forward, flops.backward, flops.total) == (560, 1120, 1680)
    assert flops_per_token(TINY, 10).core_attention == 120


def test_experts_by_hand() -> None:
    shape = replace(
        TINY,
        num_layers=3,
        num_experts=8,
        experts_per_token=2,
        expert_ffn_size=6,
        shared_expert_ffn_size=9,
        num_dense_layers=1,
        gated_mlp=False,
    )
    flops = flops_per_token(shape, 1)
    assert flops.mlp == 1 * 2 * 2 * 4 * 5
    assert flops.router == 2 * 2 * 4 * 8
    assert flops.experts == 2 * 2 * (2 * 2 * 4 * 6)
    assert flops.shared_experts == 2 * (2 * 2 * 4 * 9)
    assert flops_per_token(shape, 1, Convention.MEGATRON).router == 0


def test_free_expert_layers() -> None:
    shape = replace(TINY, num_layers=4, num_experts=2, experts_per_token=1, expert_ffn_size=6, moe_layers=(1, 3))
    assert [layer_flops_per_token(shape, 8, layer).router for layer in range(4)] == [0, 16, 0, 16]
    assert shape.num_moe_layers == 2


def test_multi_token_prediction_as_megatron_counts_it() -> None:
    shape = find_preset("deepseek-v3").shape
    hidden, vocabulary, length = shape.hidden_size, shape.vocab_size, 4096
    without = flops_per_token(shape, length, Convention.MEGATRON).total
    with_one = flops_per_token(replace(shape, num_mtp_layers=1), length, Convention.MEGATRON).total
    layer = layer_flops_per_token(shape, length, 60, Convention.MEGATRON).total
    assert with_one - without == layer + 6 * (3 * hidden + 2 * hidden**2) + 6 * hidden * vocabulary


def brute_force_pairs(length: int, window: int) -> int:
    return sum(1 for query in range(length) for key in range(query + 1) if not window or query - key < window)


@given(length=st.integers(1, 40), window=st.integers(0, 50))
def test_keys_read_are_those_of_the_mask(length: int, window: int) -> None:
    shape = replace(TINY, attention_window=window, windowed_layers=(0,))
    per_key = 2 * 2 * (3 + 3)  # forward FLOPs of one query and one key over both heads
    counted = flops_per_token(shape, length).core_attention * length / per_key
    # The field's rule leaves out half of each query's product with its own key; then per token rounded down.
    assert brute_force_pairs(length, window) - length <= counted <= brute_force_pairs(length, window)


@given(
    hidden=st.integers(1, 64), layers=st.integers(1, 6), length=st.integers(1, 256), vocabulary=st.integers(1, 999),
    batch=st.integers(1, 8),
)  # fmt: skip
def test_full_recompute_of_a_gpt_is_the_formula_of_the_megatron_paper(
    hidden: int, layers: int, length: int, vocabulary: int, batch: int
) -> None:
    shape = gpt(layers, hidden, heads=1, vocabulary=vocabulary)
    ours = flops_per_token(shape, length, Convention.FULL_ATTENTION, recompute=Recompute.FULL).hardware
    # Narayanan et al. 2021, equation 3: 96 B s L h^2 (1 + s / 6h + V / 16Lh)
    paper = 96 * batch * length * layers * hidden**2
    paper *= 1 + length / (6 * hidden) + vocabulary / (16 * layers * hidden)
    assert ours * batch * length == pytest.approx(paper, rel=1e-12)


@given(hidden=st.integers(1, 64), layers=st.integers(1, 6), length=st.integers(1, 256), vocabulary=st.integers(1, 999))
def test_selective_recompute_against_korthikanti(hidden: int, layers: int, length: int, vocabulary: int) -> None:
    shape = gpt(layers, hidden, heads=1, vocabulary=vocabulary)
    flops = flops_per_token(shape, length, Convention.FULL_ATTENTION, recompute=Recompute.SELECTIVE)
    # arXiv 2205.05198, appendix A: 72 B L s h^2 (1 + s / 6h + V / 12hL). Its hardware FLOPs turn s / 6h into s / 3h,
    # as if backward ran twice too; one more forward of attention, a third of its cost, gives 2s / 9h.
    model = 72 * layers * hidden**2 * (1 + length / (6 * hidden) + vocabulary / (12 * hidden * layers))
    hardware = 72 * layers * hidden**2 * (1 + 2 * length / (9 * hidden) + vocabulary / (12 * hidden * layers))
    assert flops.total == pytest.approx(model, rel=1e-12)
    assert flops.hardware == pytest.approx(hardware, rel=1e-12)


def gpt(layers: int, hidden: int, heads: int, vocabulary: int) -> ModelShape:
    return ModelShape(
        num_layers=layers,
        hidden_size=hidden,
        num_heads=heads,
        num_kv_heads=heads,
        head_size=hidden // heads,
        ffn_size=4 * hidden,
        vocab_size=vocabulary,
        tied_embeddings=True,
    )


@st.composite
def shapes(draw: st.DrawFn) -> ModelShape:
    size = st.integers(1, 12)
    layers, experts = draw(size), draw(st.integers(0, 6))
    latent = LatentAttention(
        query_rank=draw(st.integers(0, 5)),
        key_value_rank=draw(size),
        plain_head_size=draw(size),
        rotary_head_size=draw(size),
        value_head_size=draw(size),
    )
    return ModelShape(
        num_layers=layers,
        hidden_size=draw(size),
        num_heads=draw(size),
        num_kv_heads=draw(size),
        head_size=draw(size),
        ffn_size=draw(size),
        vocab_size=draw(size),
        gated_mlp=draw(st.booleans()),
        tied_embeddings=draw(st.booleans()),
        num_experts=experts,
        experts_per_token=draw(st.integers(1, experts)) if experts else 0,
        expert_ffn_size=draw(size),
        shared_expert_ffn_size=draw(st.integers(0, 4)),
        num_dense_layers=draw(st.integers(0, layers)),
        latent_attention=draw(st.sampled_from([None, latent])),
        num_mtp_layers=draw(st.integers(0, 2)),
        attention_window=draw(st.integers(0, 12)),
        windowed_layers=tuple(range(0, layers, 2)),
        extra_parameters=draw(st.integers(0, 9)),
    )


@given(
    shape=shapes(), length=st.integers(1, 64), convention=st.sampled_from(list(Convention)),
    recompute=st.sampled_from(list(Recompute)), data=st.data(),
)  # fmt: skip
def test_stages_sum_to_the_model(
    shape: ModelShape, length: int, convention: Convention, recompute: Recompute, data: st.DataObject
) -> None:
    cut = data.draw(st.integers(0, shape.num_layers))
    split = [cut, 0, shape.num_layers - cut]
    stages = stage_flops_per_token(shape, length, split, convention, recompute=recompute)
    whole = flops_per_token(shape, length, convention, recompute=recompute)
    summed = stages[0] + stages[1] + stages[2]
    assert summed == whole
    assert (stages[0].logits, stages[2].embedding) == (0, 0)


@given(shape=shapes(), length=st.integers(1, 64), convention=st.sampled_from(list(Convention)))
def test_recompute_laws(shape: ModelShape, length: int, convention: Convention) -> None:
    none, selective, full = (flops_per_token(shape, length, convention, recompute=kind) for kind in Recompute)
    assert none.total == selective.total == full.total == none.hardware
    assert none.hardware <= selective.hardware <= full.hardware
    assert 3 * full.hardware <= 4 * full.total  # at most one more forward
    assert selective.recomputed <= selective.core_attention


@given(shape=shapes(), length=st.integers(1, 64))
def test_conventions_are_ordered(shape: ModelShape, length: int) -> None:
    shape = replace(shape, num_mtp_layers=0)
    total = {convention: flops_per_token(shape, length, convention).total for convention in Convention}
    assert total[Convention.MEGATRON] <= total[Convention.MEGATRON_LEGACY] <= total[Convention.FULL_ATTENTION]
    assert total[Convention.EXACT_CAUSAL] <= total[Convention.FULL_ATTENTION] <= total[Convention.TORCHTITAN]
    assert total[Convention.FULL_ATTENTION] <= total[Convention.PALM] <= total[Convention.TORCHTITAN_2024]
    active = parameters(shape).matmul_active + parameters(shape).embedding
    assert total[Convention.SIX_N] == 6 * active


def test_what_cannot_be_counted_is_refused() -> None:
    with pytest.raises(DomainError, match="0 tokens"):
        flops_per_token(TINY, 0)
    with pytest.raises(DomainError, match="does not place the model's 1 layers"):
        stage_flops_per_token(TINY, 8, [1, 1])
    with pytest.raises(DomainError, match="the model is not described"):
        flops_per_token(replace(TINY, num_layers=0), 8)
    with pytest.raises(UsageError, match="visits 3 of 2 experts"):
        replace(TINY, num_experts=2, experts_per_token=3, expert_ffn_size=1)
    with pytest.raises(UsageError, match="ffn_size is -1"):
        replace(TINY, ffn_size=-1)
