"""Families of Hugging Face models: parameters and FLOPs against what `transformers` builds and torch counts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from traceanalyzer.errors import InputError
from traceanalyzer.model import ModelShape
from traceanalyzer.model_configs import read_model_config
from traceanalyzer.theory.model.flops import Convention, flops_per_token
from traceanalyzer.theory.model.parameters import parameters

DATA = Path(__file__).parents[1] / "data"


def rows(name: str) -> list[Any]:
    found = json.loads((DATA / name).read_text())["rows"]
    return [pytest.param(row, id=row["name"]) for row in found]


@pytest.mark.parametrize("row", rows("family_parameters.json"))
def test_parameters(row: dict[str, Any]) -> None:
    assert parameters(read_model_config(row["config"], "config.json")).total == row["parameters"]


@pytest.mark.parametrize(
    "row", [row for row in rows("family_parameters.json") if not {"text_only", "untied"} & set(row.values[0])]
)
def test_parameters_of_the_installed_transformers(row: dict[str, Any]) -> None:
    transformers = pytest.importorskip("transformers")
    torch = pytest.importorskip("torch")
    settings = dict(row["config"])
    family = settings.pop("model_type")
    config = transformers.AutoConfig.for_model(family, **settings)
    named = {
        "bert": "BertForMaskedLM", "t5": "T5ForConditionalGeneration", "vit": "ViTForImageClassification",
        "roberta": "RobertaForMaskedLM",
    }  # fmt: skip
    architecture = (settings.get("architectures") or [named.get(family)])[0]
    with torch.device("meta"):
        model = (
            getattr(transformers, architecture)(config)
            if architecture and hasattr(transformers, architecture)
            else transformers.AutoModelForCausalLM.from_config(config)
        )
    model.tie_weights()
    assert sum(weight.numel() for weight in model.parameters()) == row["parameters"]


ROUTED = {"experts", "core_attention", "recurrence"}
"""Counted apart: grouped kernels that torch does not count, and the mixing of tokens."""


@pytest.mark.parametrize("row", [row for row in rows("family_flops.json") if row.id not in ("vit", "qwen3_next")])
def test_projections_are_those_that_torch_counts(row: dict[str, Any]) -> None:
    shape = read_model_config(row["config"], "config.json")
    count = flops_per_token(shape, row["length"], Convention.FULL_ATTENTION).by_part()
    linear = sum(flops for part, flops in count.items() if part not in ROUTED) * row["length"]
    assert linear - scores(shape, row["length"]) == row["linear"]


def scores(shape: ModelShape, length: int) -> int:
    """FLOPs of an indexer's scores: every head multiplies every query by every key that it is offered."""
    if shape.indexer is None:
        return 0
    keys = length // shape.compressed.sparse_rate if shape.compressed else length
    layers = shape.mixers.count("sparse") if shape.compressed else shape.num_layers
    return 2 * shape.indexer.num_heads * shape.indexer.head_size * length * keys * layers


def test_shared_expert_gate_is_the_only_difference_of_qwen3_next() -> None:
    (row,) = [row.values[0] for row in rows("family_flops.json") if row.id == "qwen3_next"]
    count = flops_per_token(read_model_config(row["config"]), row["length"], Convention.FULL_ATTENTION).by_part()
    linear = sum(flops for part, flops in count.items() if part not in ROUTED) * row["length"]
    gates = 2 * 64 * 4  # one column per layer
    assert linear + gates * row["length"] == row["linear"]


@pytest.mark.parametrize("name", ["gemma3", "glm4_moe", "t5", "bert", "gpt_oss", "deepseek_v32", "deepseek_v4"])
def test_attention_is_what_torch_counts(name: str) -> None:
    (row,) = [row.values[0] for row in rows("family_flops.json") if row.id == name]
    shape, length = read_model_config(row["config"]), row["length"]
    core = flops_per_token(shape, length, Convention.FULL_ATTENTION).core_attention * length
    # beyond it torch counts the rotation's tiny product and, in DeepSeek-V3.2, the weighting of the indexer's heads
    assert core + scores(shape, length) == pytest.approx(row["mixing"], rel=0.012)


def test_the_mask_leaves_as_many_pairs_as_counted() -> None:
    config = {
        "model_type": "llama4_text", "hidden_size": 8, "num_hidden_layers": 4, "num_attention_heads": 1,
        "num_key_value_heads": 1, "head_dim": 4, "vocab_size": 9, "attention_chunk_size": 12,
    }  # fmt: skip
    shape, length = read_model_config(config), 42
    assert shape.windowed_layers == (0, 1, 2)
    pairs = [
        sum(
            key <= query and (layer == 3 or key // 12 == query // 12)
            for query in range(length)
            for key in range(length)
        )
        for layer in range(4)
    ]
    diagonal = length / 2  # the field counts half of every query's own pair
    counted = flops_per_token(shape, length).core_attention * length / (2 * 2 * 4)
    assert counted == pytest.approx(sum(pairs) - 4 * diagonal, abs=4 * length)


def test_sparse_attention_reads_the_chosen_keys() -> None:
    row = next(row.values[0] for row in rows("family_flops.json") if row.id == "deepseek_v32")
    shape, length, chosen = read_model_config(row["config"] | {"index_topk": 100}), 800, 100
    pairs = sum(min(query + 1, chosen) for query in range(length))
    per_pair = 2 * 4 * (24 + 16) * 3
    counted = flops_per_token(shape, length).core_attention * length
    assert counted == pytest.approx(per_pair * (pairs - chosen / 2), rel=0.01)


def test_encoders_read_both_sides() -> None:
    shape = read_model_config({"model_type": "bert", "num_hidden_layers": 2})
    assert flops_per_token(shape, 100).core_attention == 2 * 4 * 100 * 768


def test_what_is_left_out_is_named() -> None:
    config = {"model_type": "qwen3_vl", "text_config": {"hidden_size": 512}, "vision_config": {"depth": 3}}
    assert read_model_config(config).not_counted == "the vision encoder"


def test_a_mismatch_of_head_or_layer_is_refused() -> None:
    with pytest.raises(InputError, match="BertForSequenceClassification"):
        read_model_config({"model_type": "bert", "architectures": ["BertForSequenceClassification"]})
    with pytest.raises(InputError, match="layers of kind X"):
        read_model_config({"model_type": "nemotron_h", "hybrid_override_pattern": "MX"})
    with pytest.raises(InputError, match="'zamba2' is not known") as error:
        read_model_config({"model_type": "zamba2"})
    assert "--flops-per-token" in str(error.value.hint)
