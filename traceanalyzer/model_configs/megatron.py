"""Model shapes from Megatron-LM's arguments: the namespace it prints and saves, or its command line."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import cast

from traceanalyzer.model import LatentAttention, ModelShape
from traceanalyzer.model_configs.megatron_layers import (
    hybrid_pattern,
    layer_flags,
    num_layers,
    refuse_uncounted,
    with_layer_kinds,
)
from traceanalyzer.model_configs.settings import Extras, Settings, expert_layers, with_extras

_NEGATIONS = {
    "disable_bias_linear": ("add_bias_linear", False),
    "no_position_embedding": ("position_embedding_type", "none"),
}
"""Command-line switches that set another argument."""

_ALIASES = {
    "encoder_seq_length": "seq_length",
    "sequence_length": "seq_length",
    "activations_checkpoint_granularity": "recompute_granularity",
    "activations_checkpoint_method": "recompute_method",
    "add_bias": "add_bias_linear",
    "bias": "add_bias_linear",
    "num_moe_experts": "num_experts",
}
"""NeMo's names of arguments."""
_GATED = ("swiglu", "fast-swiglu")
_PROGRAM = re.compile(r"(?:^|/)pretrain_(\w+)\.py$")


def megatron_arguments(command: str | Sequence[str]) -> dict[str, object]:
    """Arguments of a Megatron-LM command line, or of its words, as it stores them: `--num-layers 32 --swiglu` and so on.

    Words that belong to no `--` are skipped, but for Megatron-LM's program, whose model `pretraining` names; a switch without
    value is true; whole numbers become integers.
    """
    arguments: dict[str, object] = {}
    name: str | None = None
    for word in shlex.split(command, comments=True) if isinstance(command, str) else command:
        if word.startswith("--"):
            name, _, value = word[2:].partition("=")
            name = name.replace("-", "_")
            key, flag = _NEGATIONS.get(name, (name, True))
            arguments[key] = _value(value) if value else flag
        elif name is not None and arguments.get(name) is True:
            arguments[name] = _value(word)
        elif program := _PROGRAM.search(word):
            arguments["pretraining"] = program[1]
    return arguments


def megatron_mapping(config: Mapping[str, object]) -> dict[str, object]:
    """Settings of Megatron-LM's YAML as its arguments; any other mapping as it is.

    `language_model` and `model_parallel` are sections of its `--yaml-cfg`; `MODEL_ARGS` holds options by their spelling on
    the command line, as its functional tests do; NeMo keeps all in `model`, Megatron-Bridge the model there and batches,
    sequences and number formats in sections of their own.
    """
    model = config.get("model")
    in_model = isinstance(model, Mapping) and {"num_layers", "num_attention_heads"} <= set(
        cast("Mapping[str, object]", model)
    )
    sections = [
        name for name in ("language_model", "model_parallel", "MODEL_ARGS") if isinstance(config.get(name), Mapping)
    ]
    sections += ["model"] if in_model else []
    if not sections:
        return dict(config)
    flat = {key: value for key, value in config.items() if key not in sections}
    for name in sections:
        flat |= cast("Mapping[str, object]", config[name])
    for name, keys in _BRIDGE_SECTIONS.items() if in_model else ():
        section = flat.pop(name, None)
        if isinstance(section, Mapping):
            settings_of = cast("Mapping[str, object]", section)
            flat |= {key: settings_of[key] for key in keys if settings_of.get(key) is not None}
        elif name == "mixed_precision" and isinstance(section, str):  # a recipe's name, such as bf16_mixed
            flat |= {"bf16": section.startswith("bf16"), "fp16": section.startswith("fp16")}
            flat |= {"fp8": section} if "fp8" in section else {}
    return _as_arguments(flat)


_BRIDGE_SECTIONS = {
    "train": ("global_batch_size", "micro_batch_size"),
    "dataset": ("sequence_length", "seq_length"),
    "mixed_precision": ("bf16", "fp16", "fp8"),
}
"""Sections of Megatron-Bridge's saved configuration, and what of them describes the job."""


def _as_arguments(settings: Mapping[str, object]) -> dict[str, object]:
    found: dict[str, object] = {}
    for name, value in settings.items():
        plain = name.removeprefix("--").replace("-", "_")
        key, negated = _NEGATIONS.get(plain, (plain, True)) if name.startswith("--") else (plain, True)
        if value is not None:
            found[key] = negated if value is True else value
    for alias, name in _ALIASES.items():
        if alias in found:
            found.setdefault(name, found[alias])
    if isinstance(found.get("share_embeddings_and_output_weights"), bool):  # Megatron-Bridge's and Megatron Core's name
        found.setdefault("untie_embeddings_and_output_weights", not found["share_embeddings_and_output_weights"])
    gated = (
        found.get("activation_func") == "swiglu" or found.get("activation") in _GATED or found.get("gated_linear_unit")
    )
    if gated:
        found.setdefault("swiglu", True)
    heads = found.get("num_query_groups")
    if heads is not None and heads != found.get("num_attention_heads"):
        found.setdefault("group_query_attention", True)
    return found


def _value(word: str) -> object:
    return int(word) if re.fullmatch(r"\d{1,12}", word) else word


def read_megatron(arguments: Mapping[str, object], source: str = "Megatron-LM's arguments") -> ModelShape:
    """The shape of the model that Megatron-LM builds. Raises `InputError` (see `read_model_config`)."""
    settings = Settings(arguments, source)
    hidden = settings.integer("hidden_size")
    heads = settings.integer("num_attention_heads")
    refuse_uncounted(settings)
    gated = settings.flag("swiglu") or settings.flag("quick_geglu") or settings.flag("gated_linear_unit")
    latent = _latent(settings) if settings.flag("multi_latent_attention") else None
    groups = settings.integer("num_query_groups", default=heads) if settings.flag("group_query_attention") else heads
    shape = ModelShape(
        num_layers=num_layers(settings),
        hidden_size=hidden,
        num_heads=heads,
        num_kv_heads=groups,
        head_size=latent.head_size if latent else settings.integer("kv_channels", default=hidden // max(heads, 1)),
        ffn_size=settings.integer("ffn_hidden_size", default=_default_ffn(hidden, gated=settings.flag("swiglu"))),
        vocab_size=_padded_vocabulary(settings),
        gated_mlp=gated,
        tied_embeddings=not settings.flag("untie_embeddings_and_output_weights"),
        num_mtp_layers=settings.integer("mtp_num_layers", default=0),
        latent_attention=latent,
    )
    shape = with_layer_kinds(_with_experts(shape, settings), settings)
    return with_extras(shape, _extras(settings, shape))


def _default_ffn(hidden: int, *, gated: bool) -> int:
    """`4h`, or with SwiGLU two thirds of it rounded down to a multiple of 64, as Megatron-LM's own default."""
    return int(4 * hidden * 2 / 3) // 64 * 64 if gated else 4 * hidden


def _padded_vocabulary(settings: Settings) -> int:
    if settings.has("padded_vocab_size"):
        return settings.integer("padded_vocab_size")
    multiple = settings.integer("make_vocab_size_divisible_by", default=128)
    multiple *= settings.integer("tensor_model_parallel_size", default=1)
    return -(-settings.integer("vocab_size") // max(multiple, 1)) * max(multiple, 1)


def _latent(settings: Settings) -> LatentAttention:
    """`qk_head_dim` is the part without rotary position; defaults are Megatron-LM's own (DeepSeek's sizes)."""
    return LatentAttention(
        query_rank=settings.integer("q_lora_rank", default=0),
        key_value_rank=settings.integer("kv_lora_rank", default=32),
        plain_head_size=settings.integer("qk_head_dim", default=128),
        rotary_head_size=settings.integer("qk_pos_emb_head_dim", default=64),
        value_head_size=settings.integer("v_head_dim", default=128),
    )


def _extras(settings: Settings, shape: ModelShape) -> Extras:
    linear = settings.flag("add_bias_linear", default=True)
    layer_norm = settings.text("normalization", "LayerNorm") == "LayerNorm"
    latent = shape.latent_attention is not None
    learned = settings.text("position_embedding_type", "learned_absolute") == "learned_absolute"
    extras = Extras(
        qkv_bias=(linear or settings.flag("add_qkv_bias")) and not latent,
        output_bias=linear,
        mlp_bias=linear,
        norm_bias=layer_norm,
        head_norm=settings.flag("qk_layernorm") and not latent,
        sinks=settings.text("softmax_type") == "learnable",
        shared_expert_gate=settings.flag("moe_shared_expert_gate"),
    )
    if learned and settings.has("max_position_embeddings"):
        return replace(extras, num_positions=settings.integer("max_position_embeddings"))
    return extras


def _with_experts(shape: ModelShape, settings: Settings) -> ModelShape:
    num_experts = settings.integer("num_experts", default=0)
    if not num_experts:
        return shape
    if hybrid_pattern(settings):
        num_dense, layers = 0, ()
    else:
        pattern = _layer_pattern(settings, shape.num_layers)
        num_dense, layers = expert_layers(shape.num_layers, lambda layer: pattern[layer])
    if num_dense == shape.num_layers:
        return shape
    return replace(
        shape,
        num_experts=num_experts,
        experts_per_token=settings.integer("moe_router_topk", default=2),
        expert_ffn_size=settings.integer("moe_ffn_hidden_size", default=shape.ffn_size),
        shared_expert_ffn_size=settings.integer("moe_shared_expert_intermediate_size", default=0),
        expert_latent_size=settings.integer("moe_latent_size", default=0),
        expert_groups=settings.integer("moe_router_num_groups", default=0),
        groups_per_token=settings.integer("moe_router_group_topk", default=0),
        num_dense_layers=num_dense,
        moe_layers=layers,
    )


def _layer_pattern(settings: Settings, num_layers: int) -> list[bool]:
    """Which layers have experts: `moe_layer_freq` is n (layers 0, n, 2n, ...), a list, or text like `([0]*3+[1]*58)`."""
    given = settings.config.get("moe_layer_freq", 1)
    if isinstance(given, int) and given > 0:
        return [layer % given == 0 for layer in range(num_layers)]
    return [bool(value) for value in layer_flags(settings, "moe_layer_freq", num_layers)]
