"""Model shapes read from the settings of other code bases."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from traceanalyzer.errors import InputError, UsageError
from traceanalyzer.model import LatentAttention, ModelShape
from traceanalyzer.model_configs import find_preset, megatron_arguments, read_model_config
from traceanalyzer.theory.model.parameters import parameters

# What the published config.json of each says, as far as a shape depends on it.
LLAMA3_8B = {
    "model_type": "llama",
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "attention_bias": False,
    "mlp_bias": False,
    "tie_word_embeddings": False,
    "vocab_size": 128256,
    "rope_theta": 500000.0,
}
DEEPSEEK_V3 = {
    "model_type": "deepseek_v3",
    "hidden_size": 7168,
    "intermediate_size": 18432,
    "moe_intermediate_size": 2048,
    "moe_layer_freq": 1,
    "first_k_dense_replace": 3,
    "n_routed_experts": 256,
    "n_shared_experts": 1,
    "num_experts_per_tok": 8,
    "num_attention_heads": 128,
    "num_key_value_heads": 128,
    "num_hidden_layers": 61,
    "num_nextn_predict_layers": 1,
    "q_lora_rank": 1536,
    "kv_lora_rank": 512,
    "qk_nope_head_dim": 128,
    "qk_rope_head_dim": 64,
    "v_head_dim": 128,
    "tie_word_embeddings": False,
    "vocab_size": 129280,
}
QWEN3_30B_MEGATRON = """
    torchrun --nproc-per-node 8 pretrain_gpt.py --disable-bias-linear --qk-layernorm --group-query-attention
    --num-attention-heads 32 --num-query-groups 4 --kv-channels 128 --num-layers 48 --hidden-size 2048
    --ffn-hidden-size 6144 --normalization RMSNorm --position-embedding-type rope --swiglu --norm-epsilon 1e-6
    --untie-embeddings-and-output-weights --vocab-size 151936 --moe-ffn-hidden-size 768 --moe-router-topk 8
    --moe-layer-freq "'([1]*48)'" --num-experts 128 --moe-token-dispatcher-type alltoall
"""
DEEPSEEK_V3_MEGATRON = """
    --num-layers 61 --hidden-size 7168 --num-attention-heads 128 --ffn-hidden-size 18432 --swiglu
    --moe-layer-freq ([0]*3+[1]*58) --num-experts 256 --moe-router-topk 8 --moe-ffn-hidden-size=2048
    --moe-shared-expert-intermediate-size 2048 --multi-latent-attention --q-lora-rank 1536 --kv-lora-rank 512
    --qk-head-dim 128 --qk-pos-emb-head-dim 64 --v-head-dim 128 --disable-bias-linear --normalization RMSNorm
    --untie-embeddings-and-output-weights --vocab-size 129280 --no-position-embedding --mtp-num-layers 1
"""


SMALL = {
    "hidden_size": 64, "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 96, "vocab_size": 100,
    "num_hidden_layers": 3, "tie_word_embeddings": False,
}  # fmt: skip
SMALL_MOE = SMALL | {
    "num_hidden_layers": 6, "moe_intermediate_size": 32, "num_experts": 8, "num_experts_per_tok": 2,
    "decoder_sparse_step": 2, "mlp_only_layers": [3],
}  # fmt: skip


# Parameters of the model that the transformers library 5.23.0 builds from the same settings.
@pytest.mark.parametrize(
    ("config", "num_parameters"),
    [
        (SMALL | {"model_type": "llama", "attention_bias": True, "mlp_bias": True}, 106752),
        (SMALL | {"model_type": "mistral", "head_dim": 32}, 142272),
        (SMALL | {"model_type": "qwen3", "head_dim": 32, "attention_bias": True}, 143424),
        (SMALL | {"model_type": "gpt_neox", "num_key_value_heads": 4, "attention_bias": False}, 100192),
        (SMALL | {"model_type": "gpt_oss", "head_dim": 32, "num_local_experts": 4, "num_experts_per_tok": 2}, 312984),
        (SMALL_MOE | {"model_type": "qwen2_moe", "shared_expert_intermediate_size": 48}, 279744),
        (SMALL_MOE | {"model_type": "qwen3_moe", "head_dim": 16}, 260608),
        (
            SMALL
            | {"model_type": "phi3", "hidden_size": 3072, "num_hidden_layers": 32, "num_attention_heads": 32}
            | {"num_key_value_heads": 32, "intermediate_size": 8192, "vocab_size": 32064},
            3821079552,
        ),
        (
            {"model_type": "gemma", "hidden_size": 2048, "num_hidden_layers": 18, "num_attention_heads": 8}
            | {"num_key_value_heads": 1, "head_dim": 256, "intermediate_size": 16384, "vocab_size": 256000},
            2506172416,
        ),
    ],
)
def test_families_have_the_parameters_of_their_library(config: dict[str, object], num_parameters: int) -> None:
    assert parameters(read_model_config(config)).total == num_parameters


def test_llama_from_three_code_bases() -> None:
    torchtitan = {"dim": 4096, "n_layers": 32, "n_heads": 32, "n_kv_heads": 8, "ffn_dim_multiplier": 1.3}
    torchtitan |= {"multiple_of": 1024, "vocab_size": 128256}
    megatron = megatron_arguments(
        "--num-layers 32 --hidden-size 4096 --ffn-hidden-size 14336 --num-attention-heads 32 --num-query-groups 8"
        " --group-query-attention --swiglu --disable-bias-linear --normalization RMSNorm --vocab-size 128256"
        " --untie-embeddings-and-output-weights --position-embedding-type rope --max-position-embeddings 8192"
    )
    expected = find_preset("llama-3-8b").shape
    assert read_model_config(LLAMA3_8B) == expected
    assert read_model_config(torchtitan) == expected
    assert read_model_config(megatron) == expected


def test_moe_from_megatron_and_hugging_face() -> None:
    assert read_model_config(megatron_arguments(QWEN3_30B_MEGATRON)) == find_preset("qwen3-30b-a3b").shape
    deepseek = replace(find_preset("deepseek-v3").shape, num_mtp_layers=1)
    assert read_model_config(DEEPSEEK_V3) == deepseek
    assert read_model_config(megatron_arguments(DEEPSEEK_V3_MEGATRON)) == deepseek


def test_torchtitan_deepseek_arguments() -> None:
    arguments = {
        "dim": 2048, "inter_dim": 10944, "moe_inter_dim": 1408, "n_layers": 27, "n_dense_layers": 1, "n_heads": 16,
        "q_lora_rank": 0, "kv_lora_rank": 512, "qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "v_head_dim": 128,
        "vocab_size": 102400, "moe_args": {"num_experts": 64, "num_shared_experts": 2, "top_k": 6},
    }  # fmt: skip
    assert read_model_config(arguments) == find_preset("deepseek-v2-lite").shape


def test_torchtitan_job_names_model_and_flavor() -> None:
    job = {"model": {"name": "llama3", "flavor": "70B"}, "training": {"seq_len": 8192}}
    assert read_model_config(job) == find_preset("llama-3-70b").shape
    with pytest.raises(InputError, match="'llama3' of flavor '9B' is not known"):
        read_model_config({"model": {"name": "llama3", "flavor": "9B"}}, "train.toml")


def test_torchtitan_llama4_style_interleaving() -> None:
    arguments = {"dim": 64, "n_layers": 4, "n_heads": 4, "vocab_size": 100, "interleave_moe_layer_step": 2}
    shape = read_model_config(arguments | {"moe_args": {"num_experts": 4, "top_k": 1}})
    assert shape.moe_layers == (1, 3)


def test_megatron_gpt_defaults() -> None:
    shape = read_model_config(
        megatron_arguments(
            "--num-layers 2 --hidden-size 8 --num-attention-heads 2 --vocab-size 50257 --max-position-embeddings 16"
            " --tensor-model-parallel-size 8"
        )
    )
    biases = (3 * 8 + 8) + (32 + 8) + 2 * 8  # attention, feed-forward, norms
    assert shape == ModelShape(
        num_layers=2,
        hidden_size=8,
        num_heads=2,
        num_kv_heads=2,
        head_size=4,
        ffn_size=32,
        vocab_size=51200,  # padded to a multiple of 128 * 8
        tied_embeddings=True,
        extra_parameters=2 * biases + 8 + 16 * 8,
    )


def test_megatron_defaults_of_gated_and_expert_layers() -> None:
    text = "--num-layers 1 --hidden-size 4096 --num-attention-heads 32 --vocab-size 128 --swiglu"
    shape = read_model_config(megatron_arguments(text + " --num-experts 4"))
    assert shape.ffn_size == 10880  # 4 * 4096 * 2 / 3 = 10922.67, down to a multiple of 64
    assert (shape.expert_ffn_size, shape.experts_per_token, shape.shared_expert_ffn_size) == (10880, 2, 0)
    latent = read_model_config(megatron_arguments(text + " --multi-latent-attention --qk-layernorm")).latent_attention
    assert latent == LatentAttention(
        query_rank=0, key_value_rank=32, plain_head_size=128, rotary_head_size=64, value_head_size=128
    )


def test_megatron_expert_layers() -> None:
    base = megatron_arguments("--num-layers 4 --hidden-size 8 --num-attention-heads 2 --vocab-size 128 --num-experts 4")
    assert read_model_config(base).num_moe_layers == 4
    assert read_model_config(base | {"moe_layer_freq": 2}).moe_layers == (0, 2)
    assert read_model_config(base | {"moe_layer_freq": [0, 1, 1, 0]}).moe_layers == (1, 2)
    assert read_model_config(base | {"moe_layer_freq": "[0]*1+[1]*3"}).num_dense_layers == 1
    assert read_model_config(base | {"moe_layer_freq": "([0,1]*2)"}).moe_layers == (1, 3)
    for wrong in ("[1]*5", "[2]*4", "__import__('os')", 0, "([1]*99999999999)"):
        with pytest.raises(InputError, match="moe_layer_freq"):
            read_model_config(base | {"moe_layer_freq": wrong})


def test_command_line_words() -> None:
    text = "python pretrain.py 3 --swiglu --lr 1e-4 --num-layers=7 --disable-bias-linear --a b c # --not-this 1"
    assert megatron_arguments(text) == {
        "swiglu": True, "lr": "1e-4", "num_layers": 7, "add_bias_linear": False, "a": "b",
    }  # fmt: skip


def test_sliding_windows() -> None:
    mistral = {
        "model_type": "mistral", "hidden_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4, "vocab_size": 99,
        "sliding_window": 4096,
    }  # fmt: skip
    shape = read_model_config(mistral)
    assert (shape.attention_window, shape.windowed_layers) == (4096, (0, 1, 2))
    typed = mistral | {"layer_types": ["full_attention", "sliding_attention", "full_attention"]}
    assert read_model_config(typed).windowed_layers == (1,)
    assert read_model_config(mistral | {"sliding_window": None}).attention_window == 0
    qwen = mistral | {"model_type": "qwen2", "use_sliding_window": False, "max_window_layers": 1}
    assert read_model_config(qwen).windowed_layers == ()
    assert read_model_config(qwen | {"use_sliding_window": True}).windowed_layers == (1, 2)
    with pytest.raises(InputError, match="linear_attention"):
        read_model_config(mistral | {"layer_types": ["linear_attention"] * 3})


def test_qwen_expert_layers() -> None:
    config = {
        "model_type": "qwen3_moe", "hidden_size": 64, "num_hidden_layers": 4, "num_attention_heads": 4,
        "intermediate_size": 96, "moe_intermediate_size": 32, "num_experts": 8, "num_experts_per_tok": 2,
        "vocab_size": 99, "mlp_only_layers": [3], "decoder_sparse_step": 1,
    }  # fmt: skip
    assert read_model_config(config).moe_layers == (0, 1, 2)
    assert read_model_config(config | {"decoder_sparse_step": 2}).moe_layers == (1,)
    assert read_model_config(config | {"num_experts": 0}).num_experts == 0


def test_language_model_of_a_multimodal_one() -> None:
    assert read_model_config({"model_type": "some_vision", "text_config": LLAMA3_8B}) == read_model_config(LLAMA3_8B)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (LLAMA3_8B | {"model_type": "mamba"}, "model_type 'mamba' is not known"),
        ({k: v for k, v in LLAMA3_8B.items() if k != "vocab_size"}, "'vocab_size' is missing"),
        (LLAMA3_8B | {"hidden_size": "4096"}, "'hidden_size' is '4096', not a whole number"),
        (LLAMA3_8B | {"hidden_size": True}, "'hidden_size' is True"),
        (LLAMA3_8B | {"hidden_size": -1}, "'hidden_size' is -1"),
        (LLAMA3_8B | {"num_hidden_layers": 10**9}, "1000000000 layers"),
        (LLAMA3_8B | {"tie_word_embeddings": "no"}, "'tie_word_embeddings' is 'no'"),
        (DEEPSEEK_V3 | {"attention_bias": True}, "biases in latent attention"),
        (LLAMA3_8B | {"vocab_size": 0}, "hidden size and vocabulary must be at least 1"),
        (DEEPSEEK_V3 | {"num_experts_per_tok": 257}, "visits 257 of 256 experts"),
        ({"weights": []}, "neither a Hugging Face config.json nor"),
    ],
)
def test_what_cannot_be_read_is_named(config: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        read_model_config(config, "config.json")
    assert "config.json" in error.value.message
    assert error.value.hint


@given(
    st.dictionaries(
        st.sampled_from([*LLAMA3_8B, *DEEPSEEK_V3, "layer_types", "sliding_window", "text_config"]),
        st.one_of(
            st.integers(-3, 99), st.floats(), st.lists(st.integers(-1, 9), max_size=3),
            st.sampled_from([None, True, "", "4", [0, 1], {}, {"hidden_size": 1}]),
        ),
    ),
    st.sampled_from([LLAMA3_8B, DEEPSEEK_V3]),
)  # fmt: skip
def test_damaged_settings_never_cause_anything_but_our_errors(
    damage: dict[str, object], base: dict[str, object]
) -> None:
    try:
        shape = read_model_config(base | damage)
    except InputError as error:
        assert error.hint  # noqa: PT017 - either outcome is right, and both are looked at
    else:
        assert shape.num_layers >= 1


def test_presets_by_name() -> None:
    assert find_preset("Llama-3.2_1B").name == "llama-3.2-1b"
    latent = find_preset("DeepSeek-V3").shape.latent_attention
    assert latent == LatentAttention(
        query_rank=1536, key_value_rank=512, plain_head_size=128, rotary_head_size=64, value_head_size=128
    )
    with pytest.raises(UsageError, match="there is no model called 'llama-9'"):
        find_preset("llama-9")
