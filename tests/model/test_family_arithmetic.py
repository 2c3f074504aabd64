"""FLOPs per token of every family against plain arithmetic, written here from the papers' layers alone."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

from traceanalyzer.model_configs import read_model_config
from traceanalyzer.theory.model.flops import Convention, flops_per_token

LENGTH = 56
H, VOCAB = 80, 211


def matrix(*extents: int) -> int:
    """A token times matrices of these extents, one after the other."""
    return 2 * sum(rows * columns for rows, columns in pairwise(extents))


def grouped(heads: int, groups: int, size: int, *, gate: bool = False) -> int:
    """Attention of `heads` query heads over `groups` pairs of key and value heads; scores and sums over all tokens."""
    width = heads * size
    projections = matrix(H, width * (2 if gate else 1)) + 2 * matrix(H, groups * size) + matrix(width, H)
    return projections + 2 * LENGTH * width * 2


def latent(heads: int, query: int, key_value: int, plain: int, rotary: int, value: int) -> int:
    projections = matrix(H, query, heads * (plain + rotary)) + matrix(H, key_value + rotary)
    projections += matrix(key_value, heads * (plain + value)) + matrix(heads * value, H)
    return projections + 2 * LENGTH * heads * (plain + rotary + value)


def gated(width: int, hidden: int = H) -> int:
    return 3 * matrix(hidden, width)


def plain(width: int, hidden: int = H) -> int:
    return matrix(hidden, width, hidden)


def mamba(heads: int, size: int, groups: int, state: int) -> int:
    inner = heads * size
    mixed = inner + 2 * groups * state  # what the convolution of 4 tokens reads
    return matrix(H, inner + mixed + heads) + 2 * 4 * mixed + 4 * inner * state + matrix(inner, H)


def delta(keys: int, values: int, size: int) -> int:
    """A gated delta rule: the state is read by the key, updated, and read by the query."""
    mixed = (2 * keys + values) * size
    return (
        matrix(H, mixed + values * size + 2 * values) + 2 * 4 * mixed + 6 * values * size**2 + matrix(values * size, H)
    )


LOGITS = matrix(H, VOCAB)
HEADS: dict[str, Any] = {"num_attention_heads": 6, "num_key_value_heads": 3, "head_dim": 20}
MOE: dict[str, Any] = {"num_experts_per_tok": 3, "moe_intermediate_size": 36}
LATENT: dict[str, Any] = {
    "num_attention_heads": 6, "num_key_value_heads": 6, "q_lora_rank": 28, "kv_lora_rank": 44, "qk_nope_head_dim": 20,
    "qk_rope_head_dim": 12, "v_head_dim": 18, "intermediate_size": 130, "n_routed_experts": 12, "n_shared_experts": 2,
    "first_k_dense_replace": 2, "n_group": 3, "topk_group": 1,
}  # fmt: skip
LATENT_LAYERS = 5 * latent(6, 28, 44, 20, 12, 18) + 2 * gated(130)
LATENT_EXPERTS = 3 * (3 * gated(36) + gated(72) + matrix(H, 12))
INDEXER = matrix(28, 4 * 14) + matrix(H, 14) + matrix(H, 4) + 2 * 4 * 14 * LENGTH

FAMILIES: dict[str, tuple[dict[str, Any], int]] = {
    "llama4_text": (
        {**HEADS, "num_hidden_layers": 6, "intermediate_size": 52, "intermediate_size_mlp": 144, "num_local_experts": 10,
         "num_experts_per_tok": 1, "interleave_moe_layer_step": 3, "attention_chunk_size": 24},
        6 * grouped(6, 3, 20) + 4 * gated(144) + 2 * (2 * gated(52) + matrix(H, 10)),
    ),
    "gemma3_text": (
        {**HEADS, "num_hidden_layers": 7, "intermediate_size": 150, "sliding_window": 16},
        7 * (grouped(6, 3, 20) + gated(150)),
    ),
    "glm4_moe": (
        {**HEADS, **MOE, "num_hidden_layers": 5, "intermediate_size": 130, "n_routed_experts": 12, "n_shared_experts": 1,
         "first_k_dense_replace": 2},
        5 * grouped(6, 3, 20) + 2 * gated(130) + 3 * (4 * gated(36) + matrix(H, 12)),
    ),
    "deepseek_v3": (  # Kimi K2 too
        {**LATENT, **MOE, "num_hidden_layers": 5},
        LATENT_LAYERS + LATENT_EXPERTS,
    ),
    "deepseek_v32": (
        {**LATENT, **MOE, "num_hidden_layers": 5, "index_topk": 16, "index_n_heads": 4, "index_head_dim": 14},
        LATENT_LAYERS + LATENT_EXPERTS + 5 * INDEXER,
    ),
    "gpt_oss": (
        {**HEADS, "num_hidden_layers": 3, "intermediate_size": 70, "num_local_experts": 9, "num_experts_per_tok": 4,
         "sliding_window": 16},
        3 * (grouped(6, 3, 20) + 4 * gated(70) + matrix(H, 9)),
    ),
    "qwen3_next": (
        {**HEADS, **MOE, "num_hidden_layers": 8, "num_experts": 10, "shared_expert_intermediate_size": 44,
         "linear_num_value_heads": 6, "linear_num_key_heads": 3, "linear_key_head_dim": 12, "linear_value_head_dim": 12},
        2 * grouped(6, 3, 20, gate=True) + 6 * delta(3, 6, 12) + 8 * (3 * gated(36) + gated(44) + matrix(H, 10)),
    ),
    "nemotron_h": (
        {**HEADS, **MOE, "hybrid_override_pattern": "M-MEM*-EM", "intermediate_size": 120, "mamba_num_heads": 10,
         "mamba_head_dim": 18, "n_groups": 2, "ssm_state_size": 22, "n_routed_experts": 12,
         "moe_shared_expert_intermediate_size": 58, "moe_latent_size": 24},
        grouped(6, 3, 20) + 4 * mamba(10, 18, 2, 22) + 2 * plain(120)
        + 2 * (3 * plain(36, 24) + plain(58) + 2 * matrix(H, 24) + matrix(H, 12)),
    ),
    "mamba2": (
        {"num_hidden_layers": 5, "num_heads": 10, "head_dim": 16, "state_size": 22, "n_groups": 2},
        5 * mamba(10, 16, 2, 22),
    ),
    "bert": (
        {"num_hidden_layers": 4, "num_attention_heads": 5, "intermediate_size": 170},
        4 * (grouped(5, 5, 16) + plain(170)) + matrix(H, H),
    ),
    "t5": (
        {"d_model": H, "d_ff": 170, "num_layers": 3, "num_decoder_layers": 4, "num_heads": 6, "d_kv": 14},
        (3 + 4 + 4) * grouped(6, 6, 14) + 7 * plain(170),
    ),
}  # fmt: skip


@pytest.mark.parametrize("family", FAMILIES)
def test_forward_of_a_token(family: str) -> None:
    settings, layers = FAMILIES[family]
    sizes = {} if "d_model" in settings else {"hidden_size": H}
    shape = read_model_config({"model_type": family, "vocab_size": VOCAB, **sizes, **settings}, "config.json")
    assert flops_per_token(shape, LENGTH, Convention.FULL_ATTENTION).forward == layers + LOGITS


def test_the_text_of_qwen3_vl_is_a_dense_model() -> None:
    text = {**HEADS, "hidden_size": H, "num_hidden_layers": 5, "intermediate_size": 140, "vocab_size": VOCAB}
    shape = read_model_config({"model_type": "qwen3_vl", "text_config": text, "vision_config": {"depth": 3}})
    counted = flops_per_token(shape, LENGTH, Convention.FULL_ATTENTION).forward
    assert counted == 5 * (grouped(6, 3, 20) + gated(140)) + LOGITS


def test_patches_of_vit() -> None:
    config = {"model_type": "vit", "hidden_size": H, "num_hidden_layers": 3, "num_attention_heads": 5, "patch_size": 6}
    shape = read_model_config({**config, "intermediate_size": 170, "image_size": 42})
    tokens = (42 // 6) ** 2 + 1
    attention = matrix(H, 80) * 4 + 4 * tokens * 80
    assert (
        flops_per_token(shape, tokens, Convention.FULL_ATTENTION).forward
        == 3 * (attention + plain(170)) + 2 * H * 3 * 36
    )
