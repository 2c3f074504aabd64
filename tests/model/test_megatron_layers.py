"""Megatron-LM's arguments that change the count: used or refused by name, and counted as Megatron-LM counts them."""

from __future__ import annotations

import pytest

from traceanalyzer.errors import InputError
from traceanalyzer.model import ModelShape
from traceanalyzer.model_configs import megatron_arguments, read_model_config
from traceanalyzer.theory.model.flops import Convention, flops_per_token
from traceanalyzer.theory.model.parameters import parameters

BASE = (
    "--hidden-size 384 --num-attention-heads 6 --seq-length 512 --vocab-size 1024 --make-vocab-size-divisible-by 1 "
    "--swiglu --ffn-hidden-size 1000 --untie-embeddings-and-output-weights --disable-bias-linear --normalization RMSNorm "
    "--position-embedding-type rope "
)
SEQUENCE = 512
HIDDEN, HEADS, FFN, VOCAB = 384, 6, 1000, 1024
MLP, LOGITS = 6 * HIDDEN * FFN, 2 * HIDDEN * VOCAB
ATTENTION = 4 * HIDDEN * (2 * HIDDEN + SEQUENCE // 2)
LATENT = "--multi-latent-attention --q-lora-rank 64 --kv-lora-rank 48 --qk-head-dim 32 --qk-pos-emb-head-dim 16 --v-head-dim 32 "


def shape(extra: str, layers: int | None = 9) -> ModelShape:
    return read_model_config(
        megatron_arguments(BASE + (f"--num-layers {layers} " if layers else "") + extra), "job.txt"
    )


def forward(extra: str, layers: int | None = 9, convention: Convention = Convention.MEGATRON) -> int:
    return flops_per_token(shape(extra, layers), SEQUENCE, convention).forward


def mamba(heads: int, size: int, groups: int, state: int) -> int:
    """A Mamba layer as Megatron-LM's `hybrid_flops` counts it."""
    inner = heads * size
    return 2 * HIDDEN * (2 * inner + 2 * groups * state + heads) + 7 * inner * state + 2 * inner * HIDDEN


def delta(qk: int, v: int, heads: int, size: int, kernel: int) -> int:
    """A gated-delta-net layer as Megatron-LM counts it."""
    return 2 * (HIDDEN * (2 * qk + 2 * v + 2 * heads) + kernel * (2 * qk + v) + heads * size * size * 4 + HIDDEN * v)


def test_plain() -> None:
    assert forward("") == 9 * (ATTENTION + MLP) + LOGITS


@pytest.mark.parametrize("option", ["--hybrid-override-pattern", "--hybrid-layer-pattern"])
def test_hybrid_pattern(option: str) -> None:
    sizes = "--mamba-num-heads 10 --mamba-head-dim 32 --mamba-num-groups 2 --mamba-state-dim 16"
    expected = 4 * mamba(10, 32, 2, 16) + 2 * ATTENTION + 3 * MLP + LOGITS
    assert forward(f"{option} M-M*|-MM*- {sizes}") == expected
    assert forward(f"{option} M-M*|-MM*- {sizes}", layers=None) == expected


def test_hybrid_defaults_are_megatrons_own() -> None:
    read = shape("--hybrid-layer-pattern MM*", 3).mamba
    assert read is not None
    assert (read.num_heads, read.head_size, read.state_size, read.num_groups) == (12, 64, 128, 8)


def test_hybrid_of_every_kind_with_a_prediction_module() -> None:
    extra = (
        "--hybrid-layer-pattern M*G-E/ME --mtp-num-layers 1 --num-experts 8 --moe-router-topk 2 --moe-ffn-hidden-size 24 "
        "--moe-latent-size 48 --moe-shared-expert-intermediate-size 40 --linear-num-key-heads 2 --linear-key-head-dim 16 "
        "--linear-num-value-heads 4 --linear-value-head-dim 32 --linear-conv-kernel-dim 5 --mamba-num-heads 10 "
        "--mamba-head-dim 32 --mamba-num-groups 2 --mamba-state-dim 16"
    )
    experts = 6 * 24 * 2 * 48 + 4 * HIDDEN * 48 + 6 * HIDDEN * 40
    mixers = 2 * mamba(10, 32, 2, 16) + ATTENTION + delta(32, 128, 4, 32, 5)
    module = 2 * (2 * HIDDEN * HIDDEN + 3 * HIDDEN)
    assert forward(extra, 5) == mixers + MLP + 2 * experts + 2 * LOGITS + module


@pytest.mark.parametrize(("frequency", "attention"), [("3", 3), ("([1]*7+[0]*2)", 2), ("([1,1,0])*3", 3)])
def test_gated_delta_net(frequency: str, attention: int) -> None:
    extra = f"--experimental-attention-variant gated_delta_net --linear-attention-freq {frequency}"
    linear = delta(16 * 128, 32 * 128, 32, 128, 4)
    assert forward(extra) == attention * ATTENTION + (9 - attention) * linear + 9 * MLP + LOGITS


def test_sparse_attention_needs_its_sizes() -> None:
    dsa = "--experimental-attention-variant dsa "
    with pytest.raises(InputError, match="experimental_attention_variant dsa needs multi_latent_attention"):
        shape(dsa)
    with pytest.raises(InputError, match="dsa_indexer_n_heads"):
        shape(dsa + LATENT)
    sized = dsa + LATENT + "--dsa-indexer-n-heads 4 --dsa-indexer-head-dim 24 --dsa-indexer-topk 128"
    plain, sparse = (flops_per_token(shape(extra), SEQUENCE).by_part() for extra in (LATENT, sized))
    pairs = sum(min(query + 1, 128) for query in range(SEQUENCE)) - 128 / 2
    assert sparse["core_attention"] / plain["core_attention"] == pytest.approx(pairs / (SEQUENCE**2 / 2), rel=0.01)
    projections = 2 * (64 * 4 * 24 + HIDDEN * (24 + 4))
    assert sparse["indexer"] == 9 * (projections + 4 * 24 * SEQUENCE)


@pytest.mark.parametrize(
    ("given", "layers"),
    [
        ("--window-size '(63,0)'", tuple(range(9))),
        ("--window-size 63,0 --window-attn-skip-freq 3", (0, 1, 3, 4, 6, 7)),
        ("--window-size 63,0 --window-attn-skip-freq '([1]*4+[0]*5)'", (0, 1, 2, 3)),
    ],
)
def test_sliding_windows(given: str, layers: tuple[int, ...]) -> None:
    read = shape(given)
    assert (read.attention_window, read.windowed_layers) == (64, layers)


def test_chunks_gates_and_a_shared_expert() -> None:
    chunked = shape("--attention-chunk-size 128 --no-rope-freq 4")
    assert (chunked.attention_window, chunked.windowed_layers) == (128, (0, 1, 2, 4, 5, 6, 8))
    assert chunked.chunked_attention
    core = flops_per_token(shape("--attention-chunk-size 128 --no-rope-freq 10"), SEQUENCE).core_attention
    assert core == 9 * 4 * HIDDEN * 128 // 2
    assert forward("--attention-output-gate") - forward("") == 9 * 2 * HIDDEN * HIDDEN
    gate = "--num-experts 4 --moe-shared-expert-intermediate-size 64 "
    assert parameters(shape(gate + "--moe-shared-expert-gate")).total - parameters(shape(gate)).total == 9 * HIDDEN


@pytest.mark.parametrize(
    ("extra", "name"),
    [
        ("--heterogeneous-layers-config-path layers.json", "heterogeneous_layers_config_path"),
        ("--is-hybrid-model", "is_hybrid_model"),
        ("--hybrid-attention-ratio 0.1", "hybrid_attention_ratio"),
        ("--retro-add-retriever", "retro_add_retriever"),
        ("--decoder-num-layers 6", "decoder_num_layers"),
        ("--experimental-attention-variant dsv4_hybrid", "dsv4_hybrid"),
        ("--experimental-attention-variant gated_delta_net", "linear_attention_freq"),
        ("--attention-chunk-size 128", "attention_chunk_size"),
        ("--window-size 63,7", "window_size"),
        ("--spec megatron.core.models.mamba.mamba_layer_specs mamba_stack_spec", "spec megatron.core.models.mamba"),
        ("--language-model-type yi-34b", "language_model_type"),
        ("--freeze-LM", "freeze_LM"),
        ("--export-kd-teacher-load checkpoints/teacher", "export_kd_teacher_load"),
        ("--hybrid-layer-pattern M*", "the hybrid pattern has 2 layers, num_layers is 9"),
        ("--hybrid-layer-pattern MMMM?MMMM", "hybrid pattern has '[?]'"),
        ("--hybrid-layer-pattern MMMM*+MMM", "mixes attention, latent attention"),
        ("--hybrid-layer-pattern MMMM+MMMM", "latent attention without multi_latent_attention"),
        ("--hybrid-layer-pattern MMMM*MMMM/M/*", "modules of several kinds"),
        ("--hybrid-layer-pattern MMMMEMMMM", "experts without a number"),
    ],
)
def test_what_is_not_counted_is_refused_by_name(extra: str, name: str) -> None:
    with pytest.raises(InputError, match=name):
        shape(extra)


@pytest.mark.parametrize("program", ["bert", "t5", "vision_classify", "ict", "vlm"])
def test_programs_of_other_models_are_refused_by_name(program: str) -> None:
    command = f"torchrun --nproc-per-node 8 examples/pretrain_{program}.py {BASE} --num-layers 9"
    with pytest.raises(InputError, match=f"pretrain_{program}.py"):
        read_model_config(megatron_arguments(command), "job.txt")
    for causal in ("gpt", "mamba"):
        read_model_config(megatron_arguments(command.replace(program, causal)), "job.txt")


def test_quick_geglu_has_a_gate_and_the_plain_default_width() -> None:
    """Megatron-LM narrows the default width for SwiGLU alone."""
    base = BASE.replace("--swiglu", "")
    gated, plain = (
        read_model_config(megatron_arguments(f"{base} --num-layers 9 {extra}"), "job.txt")
        for extra in ("--quick-geglu", "")
    )
    extra = flops_per_token(gated, SEQUENCE).forward - flops_per_token(plain, SEQUENCE).forward
    assert extra == 9 * 2 * HIDDEN * gated.ffn_size


def test_arguments_that_say_nothing_are_no_reason_to_refuse() -> None:
    saved = megatron_arguments(BASE + "--num-layers 9") | {
        "heterogeneous_layers_config_path": None, "heterogeneous_layers_config_encoded_json": "", "is_hybrid_model": False,
        "hybrid_override_pattern": None, "hybrid_attention_ratio": 0.0, "hybrid_mlp_ratio": 0.0, "decoder_num_layers": None,
        "retro_add_retriever": False, "window_size": None, "experimental_attention_variant": None, "moe_latent_size": None,
        "linear_attention_freq": None, "attention_output_gate": False,
    }  # fmt: skip
    assert read_model_config(saved) == shape("")
