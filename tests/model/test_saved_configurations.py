"""What torchtitan 0.3 and Megatron-Bridge save of a run's configuration, read as job files; what is not counted is named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from traceanalyzer.errors import InputError
from traceanalyzer.model import LatentAttention, ModelShape
from traceanalyzer.options.job_file import read_job_file
from traceanalyzer.theory.model.parameters import parameters


def linear(inner: int, outer: int) -> dict[str, Any]:
    return {
        "param_init": {"weight": "<function f at 0x7f>"},
        "in_features": inner,
        "out_features": outer,
        "bias": False,
    }


def block(dim: int, ffn: int) -> dict[str, Any]:
    return {"w1": linear(dim, ffn), "w2": linear(ffn, dim), "w3": linear(dim, ffn), "param_init": None}


def attention(dim: int = 96, heads: int = 6, groups: int = 2) -> dict[str, Any]:
    projections = {"head_dim": 16, "n_heads": heads, "n_kv_heads": groups, "wqkv": linear(dim, 160)}
    return {"n_heads": heads, "n_kv_heads": None, "head_dim": None, "qk_norm": None, "qkv_linear": projections}


def experts(dim: int, ffn: int) -> dict[str, Any]:
    return {
        "router": {"num_experts": 12, "top_k": 3},
        "routed_experts": {
            "w13": linear(dim, 2 * ffn),
            "w2": linear(ffn, dim),
            "token_dispatcher": {"num_experts": 12},
        },
        "shared_experts": block(dim, 2 * ffn),
    }


def titan(**changes: Any) -> dict[str, Any]:
    dense = {"attention": attention(), "feed_forward": block(96, 200), "moe": None}
    sparse = {"attention": attention(), "feed_forward": None, "moe": experts(96, 40)}
    model = {"dim": 96, "vocab_size": 300, "layers": [dense, sparse, sparse], "enable_weight_tying": True}
    degrees = {f"{name}_degree": 1 for name in ("tensor_parallel", "context_parallel", "data_parallel_shard")}
    parallelism = {**degrees, "data_parallel_replicate_degree": 3, "pipeline_parallel_degree": 4}
    training = {"seq_len": 128, "local_batch_size": 2, "global_batch_size": -1, "mixed_precision_param": "bfloat16"}
    spec = {"name": "own", "flavor": "small", "model": model}
    return json.loads(json.dumps({"model_spec": spec, "parallelism": parallelism, "training": training} | changes))


def read(folder: Path, config: object, name: str = "config.json") -> Any:
    path = folder / name
    path.write_text(json.dumps(config) if name.endswith("json") else yaml.safe_dump(config))
    return read_job_file(str(path))


def test_a_run_s_configuration_of_torchtitan_is_its_model_and_its_batch(tmp_path: Path) -> None:
    found = read(tmp_path, titan())
    assert found.model == ModelShape(
        num_layers=3, hidden_size=96, num_heads=6, num_kv_heads=2, head_size=16, ffn_size=200, vocab_size=300,
        gated_mlp=True, tied_embeddings=True, num_experts=12, experts_per_token=3, expert_ffn_size=40,
        shared_expert_ffn_size=80, num_dense_layers=1,
    )  # fmt: skip
    said = found.training
    assert (said.sequence_length, said.tokens_per_step, said.num_devices, said.dtype) == (
        128,
        3 * 2 * 128,
        12,
        "bfloat16",
    )


def test_experts_within_their_dispatcher_and_heads_beside_their_projections_are_read_too(tmp_path: Path) -> None:
    """As torchtitan 0.3.0 builds Qwen3's experts, and projections that are not fused."""
    config = titan()
    expected = read(tmp_path, config).model
    for layer in config["model_spec"]["model"]["layers"]:
        projections = {"head_dim": 16, "wq": linear(96, 96), "wkv": linear(96, 32)}
        layer["attention"] |= {"n_heads": 6, "n_kv_heads": 2, "head_dim": 16, "qkv_linear": projections}
        if layer["moe"] is not None:
            inner = {"dim": 96, "hidden_dim": 40, "num_experts": 12}
            layer["moe"]["routed_experts"] = {
                "inner_experts": inner,
                "token_dispatcher": {"num_experts": 12, "top_k": 3},
            }
    assert read(tmp_path, config).model == expected


def latent(dim: int, query_rank: int) -> dict[str, Any]:
    """DeepSeek's attention of 5 heads: 12 + 4 elements of a query, 10 of a value, keys and values of rank 24."""
    ranks = (
        {"wq_a": linear(dim, query_rank), "wq_b": linear(query_rank, 5 * 16)}
        if query_rank
        else {"wq": linear(dim, 5 * 16)}
    )
    low = {"wkv_a": linear(dim, 28), "wkv_b": linear(24, 5 * 22), "wo": linear(50, dim)}
    sizes = {"kv_lora_rank": 24, "qk_nope_head_dim": 12, "qk_rope_head_dim": 4, "v_head_dim": 10}
    return {"n_heads": 5, "dim": dim, "q_lora_rank": query_rank, **sizes, **ranks, **low}


@pytest.mark.parametrize("query_rank", [0, 32])
def test_latent_attention_prediction_layers_and_parts_beside_the_text_are_read(tmp_path: Path, query_rank: int) -> None:
    config = titan()
    model = config["model_spec"]["model"]
    for layer in model["layers"]:
        layer["attention"] = latent(96, query_rank)
    model |= {"mtp_layers": [model["layers"][-1]], "vision_encoder": {"dim": 24}, "norm": {"normalized_shape": 96}}
    found = read(tmp_path, config).model
    assert found.latent_attention == LatentAttention(
        query_rank=query_rank, key_value_rank=24, plain_head_size=12, rotary_head_size=4, value_head_size=10
    )
    assert (found.num_heads, found.num_mtp_layers, found.not_counted) == (5, 1, "the vision encoder")
    attention = 96 * 28 + 24 * 110 + 50 * 96 + (96 * 32 + 32 * 80 if query_rank else 96 * 80)
    assert parameters(found).attention == 3 * attention
    model["layers"][2]["attention"] = latent(96, 40)
    with pytest.raises(InputError, match="layers differ in their attention"):
        read(tmp_path, config)


def test_degrees_that_are_left_to_torchtitan_leave_batch_and_devices_unknown(tmp_path: Path) -> None:
    config = titan()
    config["parallelism"]["data_parallel_shard_degree"] = -1
    said = read(tmp_path, config).training
    assert (said.tokens_per_step, said.num_devices) == (None, None)


def changed(*path: str | int, value: object) -> dict[str, Any]:
    config = titan()
    place: Any = config["model_spec"]["model"]["layers"]
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return config


@pytest.mark.parametrize(
    ("config", "says"),
    [
        (changed(0, "attention", "qkv_linear", value=None), "layer 0: 'attention.qkv_linear' is missing"),
        (changed(0, "feed_forward", "w4", value=linear(4, 4)), "'w4' is not counted"),
        (changed(1, "moe", "router", value=None), "'router' is missing"),
        (changed(2, "moe", value=experts(96, 56)), "layers differ in their feed-forward sizes"),
        (changed(2, "attention", value=attention(groups=3)), "layers differ in their attention"),
        (changed(1, "attention", "qkv_linear", "wqkv", "bias", value=True), "layer 1.*'wqkv': its bias is not counted"),
        (titan(model_spec={"name": "x"}), "'model_spec' holds no model"),
    ],
)
def test_what_is_not_counted_is_refused_by_name(tmp_path: Path, config: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        read(tmp_path, config)


@pytest.mark.parametrize("precision", ["bf16_mixed", {"bf16": True, "fp16": False}])
@pytest.mark.parametrize("shared", [True, False])
def test_megatron_bridge_keeps_the_batch_beside_the_model(tmp_path: Path, precision: object, *, shared: bool) -> None:
    model = {
        "_target_": "megatron.bridge.models.LlamaModelProvider", "num_layers": 5, "hidden_size": 80,
        "num_attention_heads": 10, "num_query_groups": 2, "ffn_hidden_size": 240, "gated_linear_unit": True,
        "add_bias_linear": False, "normalization": "RMSNorm", "position_embedding_type": "rope", "vocab_size": 512,
        "make_vocab_size_divisible_by": 1, "share_embeddings_and_output_weights": shared, "num_moe_experts": None,
    }  # fmt: skip
    config = {
        "model": model,
        "train": {"global_batch_size": 24, "micro_batch_size": 2, "train_iters": 9},
        "dataset": {"sequence_length": 64},
        "mixed_precision": precision,
    }
    found = read(tmp_path, config, "run_config.yaml")
    assert (found.model.num_kv_heads, found.model.ffn_size, found.model.gated_mlp) == (2, 240, True)
    assert found.model.tied_embeddings is shared
    said = found.training
    assert (said.sequence_length, said.tokens_per_step, said.dtype) == (64, 24 * 64, "bf16")
