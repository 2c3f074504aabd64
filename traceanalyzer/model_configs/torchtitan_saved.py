"""Model shapes from the configuration that torchtitan 0.3 saves of a run: every module with its own settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import cast

from traceanalyzer.errors import InputError
from traceanalyzer.model import LatentAttention, ModelShape
from traceanalyzer.model_configs.settings import Extras, Settings, expert_layers, with_extras
from traceanalyzer.model_configs.torchtitan import latent_attention

_HINT = "give the model by its Hugging Face config.json or by name instead"
_COUNTED = {"w1", "w2", "w3", "w13", "param_init", "sharding_config", "activation_fn"}
"""Parts of a feed-forward block that are counted."""
_MODEL = {"tok_embeddings", "norm", "lm_head", "param_init", "sharding_config"}
"""Parts of a model beside its layers that every shape has."""


@dataclass(frozen=True, slots=True)
class _Layer:
    """Sizes of one layer; a layer has a feed-forward block or experts."""

    num_heads: int
    num_kv_heads: int
    head_size: int
    head_norm: bool
    latent: LatentAttention | None = None
    ffn_size: int = 0
    num_experts: int = 0
    experts_per_token: int = 0
    expert_ffn_size: int = 0
    shared_ffn_size: int = 0


def is_saved(config: Mapping[str, object]) -> bool:
    """Whether torchtitan 0.3 saved this."""
    return isinstance(config.get("model_spec"), Mapping)


def read_saved(config: Mapping[str, object], source: str = "torchtitan's saved configuration") -> ModelShape:
    """The shape of the model that was built. Raises `InputError` (see `read_model_config`), naming what is not counted."""
    spec = Settings(config, source).table("model_spec")
    model = None if spec is None else spec.table("model")
    if model is None:
        raise InputError(f"{source}: 'model_spec' holds no model", _HINT)
    tables = [
        Settings(cast("Mapping[str, object]", layer), f"{model.source}, layer {number}")
        for number, layer in enumerate(model.sequence("layers"))
        if isinstance(layer, Mapping)
    ]
    layers = [_layer(table) for table in tables]
    if not layers:
        raise InputError(f"{model.source}: 'layers' is missing or empty", _HINT)
    first = layers[0]
    if len({(each.num_heads, each.num_kv_heads, each.head_size, each.head_norm, each.latent) for each in layers}) > 1:
        raise InputError(f"{model.source}: layers differ in their attention, which is not counted", _HINT)
    dense = [each for each in layers if not each.num_experts]
    moe = [each for each in layers if each.num_experts]
    if len(set(dense)) > 1 or len(set(moe)) > 1:
        raise InputError(f"{model.source}: layers differ in their feed-forward sizes, which is not counted", _HINT)
    shape = ModelShape(
        num_layers=len(layers),
        hidden_size=model.integer("dim"),
        num_heads=first.num_heads,
        num_kv_heads=first.num_kv_heads,
        head_size=first.head_size,
        ffn_size=dense[0].ffn_size if dense else moe[0].expert_ffn_size,
        vocab_size=model.integer("vocab_size"),
        gated_mlp=True,
        tied_embeddings=model.flag("enable_weight_tying"),
        latent_attention=first.latent,
        num_mtp_layers=len(model.sequence("mtp_layers")),
        not_counted=_others(model),
    )
    if moe:
        num_dense, moe_layers = expert_layers(len(layers), lambda layer: bool(layers[layer].num_experts))
        shape = replace(
            shape,
            num_experts=moe[0].num_experts,
            experts_per_token=moe[0].experts_per_token,
            expert_ffn_size=moe[0].expert_ffn_size,
            shared_expert_ffn_size=moe[0].shared_ffn_size,
            num_dense_layers=num_dense,
            moe_layers=moe_layers,
        )
    return shape if shape.latent_attention else with_extras(shape, Extras(head_norm=first.head_norm))


def _others(model: Settings) -> str:
    """Parts of the model that no shape has, such as an encoder of images, in words."""
    parts = (name for name in model.config if name not in _MODEL and model.table(name) is not None)
    return ", ".join(f"the {name.replace('_', ' ')}" for name in parts)


def _layer(table: Settings) -> _Layer:
    _refuse_biases(table)
    attention = table.table("attention")
    if attention is not None and attention.has("kv_lora_rank"):
        return _with_feed_forward(_latent_layer(attention), table)
    projections = None if attention is None else attention.table("qkv_linear")
    if attention is None or projections is None:
        named = "attention" if attention is None else "attention.qkv_linear"
        raise InputError(f"{table.source}: '{named}' is missing: another kind of attention is not counted", _HINT)
    for name in ("o_gate", "window_size", "sliding_window_size"):
        if attention.config.get(name) is not None:
            raise InputError(f"{attention.source}: '{name}' is not counted", _HINT)
    counts = projections if "n_heads" in projections.config else attention  # fused projections count heads themselves
    heads = counts.integer("n_heads")
    found = _Layer(
        num_heads=heads,
        num_kv_heads=counts.integer("n_kv_heads", default=heads),
        head_size=projections.integer("head_dim"),
        head_norm=attention.table("qk_norm") is not None,
    )
    return _with_feed_forward(found, table)


def _latent_layer(attention: Settings) -> _Layer:
    """Of DeepSeek's and Kimi's attention: every head has keys and values of its own, made from low ranks."""
    latent, heads = latent_attention(attention), attention.integer("n_heads")
    return _Layer(num_heads=heads, num_kv_heads=heads, head_size=latent.head_size, head_norm=False, latent=latent)


def _refuse_biases(table: Settings) -> None:
    for name in table.config:
        part = table.table(name)
        if part is None:
            continue
        if part.config.get("bias") is True:
            raise InputError(f"{part.source}: its bias is not counted", _HINT)
        _refuse_biases(part)


def _with_feed_forward(found: _Layer, table: Settings) -> _Layer:
    experts, dense = table.table("moe"), table.table("feed_forward")
    if experts is not None:
        return _with_experts(found, experts)
    if dense is None:
        raise InputError(f"{table.source}: neither 'feed_forward' nor 'moe'", _HINT)
    return replace(found, ffn_size=_ffn_size(dense))


def _with_experts(layer: _Layer, moe: Settings) -> _Layer:
    router = moe.table("router")
    routed = next((found for name in ("routed_experts", "experts") if (found := moe.table(name)) is not None), None)
    if router is None or routed is None:
        missing = "router" if router is None else "routed_experts"
        raise InputError(f"{moe.source}: '{missing}' is missing", _HINT)
    inner = routed.table("inner_experts")  # of 0.3.0, beside the dispatcher of tokens
    routed = routed if inner is None else inner
    shared = next((found for name in ("shared_experts", "shared_expert") if (found := moe.table(name))), None)
    return replace(
        layer,
        num_experts=router.integer("num_experts"),
        experts_per_token=router.integer("top_k", default=1),
        expert_ffn_size=_ffn_size(routed, more={"token_dispatcher", "num_experts", "dim", "hidden_dim"}),
        shared_ffn_size=0 if shared is None else _ffn_size(shared),
    )


def _ffn_size(block: Settings, more: set[str] | None = None) -> int:
    """The inner width of a gated block: what its last projection reads."""
    down = block.table("w2")
    unknown = sorted(name for name in set(block.config) - _COUNTED - (more or set()) if block.table(name) is not None)
    if unknown:
        raise InputError(f"{block.source}: '{unknown[0]}' is not counted", _HINT)
    if down is not None:
        return down.integer("in_features")
    return block.integer("hidden_dim")
