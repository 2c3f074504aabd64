"""Model shapes from a Hugging Face `config.json`.

What the file leaves out (gated or not, biases, tied embeddings) follows from `model_type`. Every family here is
checked against the parameter count of the `transformers` library's own model (`tests/data/preset_parameters.csv`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from traceanalyzer.errors import InputError
from traceanalyzer.model import LatentAttention, ModelShape
from traceanalyzer.model_configs.defaults import with_defaults
from traceanalyzer.model_configs.encoders import read_bert, read_t5, read_vit
from traceanalyzer.model_configs.hybrids import (
    delta_of,
    indexer_of,
    linear_layers,
    mamba_of,
    read_mamba2,
    read_nemotron_h,
    with_compressed_attention,
)
from traceanalyzer.model_configs.settings import Extras, Settings, expert_layers, with_extras

_NONE = Extras()
_QKV_BIAS = Extras(qkv_bias=True)
_HEAD_NORM = Extras(head_norm=True)
_GPT = Extras(qkv_bias=True, output_bias=True, mlp_bias=True, norm_bias=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Family:
    gated: bool = True
    tied: bool = False
    """Where the file does not say."""
    extras: Extras = _NONE
    attention_bias: bool | None = False
    """Default of `attention_bias`, which adds biases to queries, keys, values and output; None: no such setting."""
    window: str = ""
    """`all`, `even` (layers 0, 2, ...) or empty: which layers a `sliding_window` applies to by default."""
    experts: bool = False
    latent: bool = False
    indexer: bool = False
    linear: str = ""
    """Kind of the recurrent mixers that some layers have: `mamba` or `delta`."""
    has_defaults: bool = False
    """What the file leaves out is taken from the family's configuration class."""


_FAMILIES = {
    "gpt2": _Family(gated=False, tied=True, extras=_GPT, attention_bias=None),
    "gpt_neox": _Family(gated=False, extras=Extras(mlp_bias=True, norm_bias=True), attention_bias=True),
    "llama": _Family(),
    "mistral": _Family(attention_bias=None, window="all"),
    "mixtral": _Family(attention_bias=None, window="all", experts=True),
    "phi3": _Family(attention_bias=None, window="all"),
    "gemma": _Family(tied=True),
    "gemma2": _Family(tied=True, extras=Extras(norms_per_layer=4), window="even"),
    "qwen2": _Family(extras=_QKV_BIAS, attention_bias=None),
    "qwen3": _Family(extras=_HEAD_NORM),
    "qwen2_moe": _Family(extras=Extras(qkv_bias=True, shared_expert_gate=True), attention_bias=None, experts=True),
    "qwen3_moe": _Family(extras=_HEAD_NORM, experts=True),
    "olmo2": _Family(extras=Extras(full_norm=True)),
    "olmoe": _Family(extras=Extras(full_norm=True), experts=True),
    "gpt_oss": _Family(
        extras=Extras(mlp_bias=True, router_bias=True, sinks=True), attention_bias=True, window="even", experts=True
    ),
    "deepseek_v2": _Family(latent=True, experts=True),
    "deepseek_v3": _Family(latent=True, experts=True),
    "kimi_k2": _Family(latent=True, experts=True),
    "deepseek_v32": _Family(latent=True, experts=True, indexer=True, has_defaults=True),
    "deepseek_v4": _Family(experts=True, attention_bias=None, has_defaults=True),
    "glm_moe_dsa": _Family(latent=True, experts=True, indexer=True, has_defaults=True),
    "glm4_moe": _Family(experts=True, has_defaults=True),
    "llama4_text": _Family(experts=True, window="chunks", has_defaults=True),
    "gemma3_text": _Family(
        tied=True, extras=Extras(norms_per_layer=4, head_norm=True), window="gemma3", has_defaults=True
    ),
    "qwen3_next": _Family(
        extras=Extras(head_norm=True, shared_expert_gate=True), experts=True, linear="delta", has_defaults=True
    ),
    "qwen3_5_text": _Family(extras=_HEAD_NORM, linear="delta", has_defaults=True),
    "qwen3_5_moe_text": _Family(
        extras=Extras(head_norm=True, shared_expert_gate=True), experts=True, linear="delta", has_defaults=True
    ),
    "qwen3_vl_text": _Family(extras=_HEAD_NORM, has_defaults=True),
    "qwen3_vl_moe_text": _Family(extras=_HEAD_NORM, experts=True, has_defaults=True),
    "qwen2_vl_text": _Family(extras=_QKV_BIAS, attention_bias=None, has_defaults=True),
    "qwen2_5_vl_text": _Family(extras=_QKV_BIAS, attention_bias=None, has_defaults=True),
    "bamba": _Family(linear="mamba", has_defaults=True),
    "granitemoehybrid": _Family(experts=True, linear="mamba", has_defaults=True),
    "granite": _Family(has_defaults=True),
    "smollm3": _Family(tied=True, has_defaults=True),
    "olmo3": _Family(extras=Extras(full_norm=True), window="olmo3", has_defaults=True),
    "minimax_m2": _Family(extras=Extras(full_norm=True), attention_bias=None, experts=True, has_defaults=True),
    "seed_oss": _Family(attention_bias=True, has_defaults=True),
}
_OWN: dict[str, Callable[[Settings], ModelShape]] = {
    "mamba2": read_mamba2,
    "nemotron_h": read_nemotron_h,
    "bert": read_bert,
    "roberta": read_bert,
    "t5": read_t5,
    "mt5": read_t5,
    "vit": read_vit,
}
"""Families that are no plain transformer."""
_INNER = {
    "gemma3": "gemma3_text",
    "kimi_k25": "deepseek_v3",
    "llama4": "llama4_text",
    "mistral3": "mistral",
    "qwen2_vl": "qwen2_vl_text",
    "qwen2_5_vl": "qwen2_5_vl_text",
    "qwen3_5": "qwen3_5_text",
    "qwen3_5_moe": "qwen3_5_moe_text",
    "qwen3_vl": "qwen3_vl_text",
    "qwen3_vl_moe": "qwen3_vl_moe_text",
}
"""The language model of a multimodal one, where the file names the whole only."""
_OTHER_PARTS = {"vision_config": "the vision encoder", "audio_config": "the audio encoder"}


def read_huggingface(config: Mapping[str, object], source: str = "config.json") -> ModelShape:
    """The shape of the model that `config` describes. Raises `InputError` (see `read_model_config`)."""
    settings = Settings(config, source)
    outer = settings.text("model_type")
    others = [text for key, text in _OTHER_PARTS.items() if settings.table(key) is not None]
    text = settings.table("text_config")
    if text is not None:  # the language model of a multimodal one
        settings = Settings(dict(text.config) | _shared(settings), text.source)
    kind = settings.text("model_type") or outer
    kind = _INNER.get(kind, kind)
    shape = _shape(settings, kind)
    if not others:
        return shape
    return replace(shape, not_counted=", ".join([*others, *([shape.not_counted] if shape.not_counted else [])]))


def _shared(settings: Settings) -> dict[str, object]:
    """What the configuration of the whole decides for its language model: whether the output matrix is tied."""
    whole = with_defaults(settings, settings.text("model_type"))
    return {"tie_word_embeddings": whole.flag("tie_word_embeddings")} if whole.has("tie_word_embeddings") else {}


def _shape(settings: Settings, kind: str) -> ModelShape:
    own = _OWN.get(kind)
    if own is not None:
        return own(with_defaults(settings, kind))
    family = _FAMILIES.get(kind)
    if family is None:
        raise InputError(
            f"{settings.source}: model_type '{kind}' is not known",
            f"known: {', '.join(sorted({*_FAMILIES, *_OWN, *_INNER}))}; or declare --flops-per-token",
        )
    if family.has_defaults:
        settings = with_defaults(settings, kind)
    hidden = settings.integer("hidden_size", "n_embd")
    num_layers = settings.num_layers("num_hidden_layers", "n_layer")
    heads = settings.integer("num_attention_heads", "n_head")
    latent = _latent(settings) if family.latent else None
    shape = ModelShape(
        num_layers=num_layers,
        hidden_size=hidden,
        num_heads=heads,
        num_kv_heads=settings.integer("num_key_value_heads", default=heads),
        head_size=latent.head_size if latent else settings.integer("head_dim", default=hidden // max(heads, 1)),
        ffn_size=settings.integer("intermediate_size_mlp", "intermediate_size", "n_inner", default=4 * hidden),
        vocab_size=settings.integer("vocab_size"),
        gated_mlp=family.gated,
        tied_embeddings=settings.flag("tie_word_embeddings", default=family.tied),
        num_mtp_layers=settings.integer("num_nextn_predict_layers", default=0),
        latent_attention=latent,
        indexer=indexer_of(settings) if family.indexer else None,
    )
    if kind == "deepseek_v4":
        return with_extras(with_compressed_attention(_with_experts(shape, settings), settings), family.extras)
    shape = _with_linear(shape, settings, family.linear) if family.linear else shape
    shape = _with_window(shape, settings, family)
    if family.experts:
        shape = _with_experts(shape, settings)
    return with_extras(shape, _extras(settings, family, kind))


def _with_linear(shape: ModelShape, settings: Settings, kind: str) -> ModelShape:
    """Layers with recurrent mixers; beside gated delta nets, attention has a gate."""
    recurrent = linear_layers(settings, shape.num_layers)
    mixers = tuple(kind if is_recurrent else "attention" for is_recurrent in recurrent)
    if kind == "delta":
        return replace(shape, mixers=mixers, delta=delta_of(settings), output_gate=True)
    return replace(shape, mixers=mixers, mamba=mamba_of(settings))


def _extras(settings: Settings, family: _Family, kind: str) -> Extras:
    extras = family.extras
    if kind == "glm4_moe":  # no bias in the output projection
        return replace(extras, qkv_bias=settings.flag("attention_bias"), head_norm=settings.flag("use_qk_norm"))
    if kind == "seed_oss":
        return Extras(
            qkv_bias=settings.flag("attention_bias"),
            output_bias=settings.flag("attention_out_bias"),
            mlp_bias=settings.flag("mlp_bias"),
        )
    if family.attention_bias is not None and settings.flag("attention_bias", default=family.attention_bias):
        if family.latent:
            raise InputError(f"{settings.source}: biases in latent attention are not counted", "report this model")
        extras = replace(extras, qkv_bias=True, output_bias=True)
    if settings.flag("mlp_bias"):
        extras = replace(extras, mlp_bias=True)
    if kind == "gpt2":
        extras = replace(extras, num_positions=settings.integer("n_positions", default=1024))
    return extras


def _latent(settings: Settings) -> LatentAttention:
    return LatentAttention(
        query_rank=settings.integer("q_lora_rank", default=0),
        key_value_rank=settings.integer("kv_lora_rank"),
        plain_head_size=settings.integer("qk_nope_head_dim"),
        rotary_head_size=settings.integer("qk_rope_head_dim"),
        value_head_size=settings.integer("v_head_dim"),
    )


_WINDOWED = {"sliding_attention", "chunked_attention"}
_TYPES = {"full_attention", "attention", *_WINDOWED}


def _with_window(shape: ModelShape, settings: Settings, family: _Family) -> ModelShape:
    types = settings.sequence("layer_types")
    known = set(_TYPES)
    if family.linear:
        known |= {"linear_attention", "mamba"}
    if family.indexer:
        known.add("indexed_attention")
    unknown = {str(kind) for kind in types} - known
    if unknown:
        raise InputError(
            f"{settings.source}: layer_types names {', '.join(sorted(unknown))}",
            f"of this family, only {', '.join(sorted(known))} can be counted; or declare --flops-per-token",
        )
    is_chunked = family.window == "chunks"
    window = settings.integer("attention_chunk_size" if is_chunked else "sliding_window", default=0)
    if types:
        layers = tuple(layer for layer, kind in enumerate(types) if kind in _WINDOWED)
    else:
        layers = _usual_windows(settings, family, shape.num_layers)
    if not (window and layers):
        return shape
    return replace(shape, attention_window=window, windowed_layers=layers, chunked_attention=is_chunked)


def _usual_windows(settings: Settings, family: _Family, num_layers: int) -> tuple[int, ...]:
    """The layers with a window where no `layer_types` names them."""
    if family.window == "chunks":
        rotary = settings.sequence("no_rope_layers")  # 1: rotary positions, in chunks
        every = max(settings.integer("no_rope_layer_interval", default=4), 1)
        kept = rotary or [int((layer + 1) % every != 0) for layer in range(num_layers)]
        return tuple(layer for layer, is_rotary in enumerate(kept) if is_rotary)
    if family.window in ("gemma3", "olmo3"):
        usual = 6 if family.window == "gemma3" else 4
        every = max(settings.integer("sliding_window_pattern", "_sliding_window_pattern", default=usual), 1)
        return tuple(layer for layer in range(num_layers) if (layer + 1) % every)
    if settings.flag("use_sliding_window"):  # Qwen: layers from max_window_layers on
        return tuple(range(settings.integer("max_window_layers"), num_layers))
    step = {"all": 1, "even": 2}.get(family.window, 0)
    return tuple(range(0, num_layers, step)) if step else ()


def _with_experts(shape: ModelShape, settings: Settings) -> ModelShape:
    num_experts = settings.integer("num_local_experts", "num_experts", "n_routed_experts")
    granite = settings.integer("shared_intermediate_size", default=0)
    if num_experts == 0 and granite:  # Granite: the shared MLP alone
        return replace(shape, ffn_size=granite)
    routed = settings.integer("intermediate_size", default=shape.ffn_size)
    expert_size = settings.integer("moe_intermediate_size", default=routed)
    shared = settings.integer("shared_expert_intermediate_size", "shared_intermediate_size", default=0)
    if settings.has("intermediate_size_mlp"):  # Llama 4: one shared expert, as large as a routed one
        shared = routed
    num_dense, layers = expert_layers(shape.num_layers, _has_experts(settings))
    if num_experts == 0 or num_dense == shape.num_layers:
        return shape
    return replace(
        shape,
        num_experts=num_experts,
        experts_per_token=settings.integer("num_experts_per_tok"),
        expert_groups=settings.integer("n_group", default=0),
        groups_per_token=settings.integer("topk_group", default=0),
        expert_ffn_size=expert_size,
        shared_expert_ffn_size=shared or settings.integer("n_shared_experts", default=0) * expert_size,
        num_dense_layers=num_dense,
        moe_layers=layers,
    )


def _has_experts(settings: Settings) -> Callable[[int], bool]:
    """Which layers have experts, by any of the ways in which families say it."""
    listed = settings.sequence("moe_layers")
    types = settings.sequence("mlp_layer_types")
    dense = settings.integer("first_k_dense_replace", default=0)
    frequency = max(settings.integer("moe_layer_freq", default=1), 1)
    sparse_step = max(settings.integer("decoder_sparse_step", "interleave_moe_layer_step", default=1), 1)
    dense_only = set(settings.sequence("mlp_only_layers"))

    def has_experts(layer: int) -> bool:
        if types:
            return layer < len(types) and types[layer] != "dense"
        if listed:
            return layer in listed
        every = layer % frequency == 0 and (layer + 1) % sparse_step == 0
        return layer >= dense and every and layer not in dense_only

    return has_experts
