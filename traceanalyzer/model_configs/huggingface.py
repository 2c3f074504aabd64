"""Model shapes from a Hugging Face `config.json`.

What the file leaves out (gated or not, biases, tied embeddings) follows from `model_type`. Every family here is
checked against the parameter count of the `transformers` library's own model (`tests/data/preset_parameters.csv`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from traceanalyzer.errors import InputError
from traceanalyzer.model import LatentAttention, ModelShape
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
}


def read_huggingface(config: Mapping[str, object], source: str = "config.json") -> ModelShape:
    """The shape of the model that `config` describes. Raises `InputError` (see `read_model_config`)."""
    settings = Settings(config, source)
    text = settings.table("text_config")
    if text is not None:  # the language model of a multimodal one
        settings = text
    family = _FAMILIES.get(settings.text("model_type"))
    if family is None:
        raise InputError(
            f"{settings.source}: model_type '{settings.text('model_type')}' is not known",
            f"known: {', '.join(sorted(_FAMILIES))}; or give the model's sizes one by one",
        )
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
        ffn_size=settings.integer("intermediate_size", "n_inner", default=4 * hidden),
        vocab_size=settings.integer("vocab_size"),
        gated_mlp=family.gated,
        tied_embeddings=settings.flag("tie_word_embeddings", default=family.tied),
        num_mtp_layers=settings.integer("num_nextn_predict_layers", default=0),
        latent_attention=latent,
    )
    shape = _with_window(shape, settings, family)
    if family.experts:
        shape = _with_experts(shape, settings)
    return with_extras(shape, _extras(settings, family))


def _extras(settings: Settings, family: _Family) -> Extras:
    extras = family.extras
    if family.attention_bias is not None and settings.flag("attention_bias", default=family.attention_bias):
        if family.latent:
            raise InputError(f"{settings.source}: biases in latent attention are not counted", "report this model")
        extras = replace(extras, qkv_bias=True, output_bias=True)
    if settings.flag("mlp_bias"):
        extras = replace(extras, mlp_bias=True)
    if settings.text("model_type") == "gpt2":
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


def _with_window(shape: ModelShape, settings: Settings, family: _Family) -> ModelShape:
    types = settings.sequence("layer_types")
    unknown = {str(kind) for kind in types} - {"full_attention", "sliding_attention"}
    if unknown:
        raise InputError(
            f"{settings.source}: layer_types names {', '.join(sorted(unknown))}",
            "only full_attention and sliding_attention can be counted",
        )
    window = settings.integer("sliding_window", default=0)
    if types:
        layers = tuple(layer for layer, kind in enumerate(types) if kind == "sliding_attention")
    else:
        step = {"all": 1, "even": 2}.get(family.window, 0)
        layers = tuple(range(0, shape.num_layers, step)) if step else ()
        if settings.flag("use_sliding_window"):  # Qwen: layers from max_window_layers on
            layers = tuple(range(settings.integer("max_window_layers"), shape.num_layers))
    if not (window and layers):
        return shape
    return replace(shape, attention_window=window, windowed_layers=layers)


def _with_experts(shape: ModelShape, settings: Settings) -> ModelShape:
    num_experts = settings.integer("num_local_experts", "num_experts", "n_routed_experts")
    expert_size = settings.integer("moe_intermediate_size", default=shape.ffn_size)
    shared = settings.integer("shared_expert_intermediate_size", default=0)
    dense = settings.integer("first_k_dense_replace", default=0)
    frequency = max(settings.integer("moe_layer_freq", default=1), 1)
    sparse_step = max(settings.integer("decoder_sparse_step", default=1), 1)
    dense_only = set(settings.sequence("mlp_only_layers"))

    def has_experts(layer: int) -> bool:
        every = layer % frequency == 0 and (layer + 1) % sparse_step == 0
        return layer >= dense and every and layer not in dense_only

    num_dense, layers = expert_layers(shape.num_layers, has_experts)
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
