"""Model shapes from torchtitan: a model's arguments, or a job file that names a model and a flavor."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from traceanalyzer.errors import InputError
from traceanalyzer.model import LatentAttention, ModelShape
from traceanalyzer.model_configs.presets import find_preset
from traceanalyzer.model_configs.settings import Extras, Settings, expert_layers, with_extras

_FLAVORS = {
    ("llama3", "8B"): "llama-3-8b",
    ("llama3", "70B"): "llama-3-70b",
    ("llama3", "405B"): "llama-3-405b",
    ("deepseek_v3", "16B"): "deepseek-v2-lite",
    ("deepseek_v3", "671B"): "deepseek-v3",
    ("qwen3", "0.6B"): "qwen3-0.6b",
    ("qwen3", "8B"): "qwen3-8b",
    ("qwen3", "32B"): "qwen3-32b",
    ("qwen3", "30B-A3B"): "qwen3-30b-a3b",
    ("qwen3", "235B-A22B"): "qwen3-235b-a22b",
}
"""torchtitan's `deepseek_v3` 16B has the sizes of DeepSeek-V2-Lite."""


def read_torchtitan(config: Mapping[str, object], source: str = "torchtitan's settings") -> ModelShape:
    """The shape in a model's arguments (`dim`, `n_layers`, ...), or of the flavor that a job's `[model]` table names.

    Raises `InputError` (see `read_model_config`).
    """
    settings = Settings(config, source)
    job = settings.table("model")
    if job is not None:
        return _flavor(job)
    hidden = settings.integer("dim")
    heads = settings.integer("n_heads")
    latent = latent_attention(settings) if settings.has("kv_lora_rank") else None
    shape = ModelShape(
        num_layers=settings.num_layers("n_layers"),
        hidden_size=hidden,
        num_heads=heads,
        num_kv_heads=settings.integer("n_kv_heads", default=heads),
        head_size=latent.head_size if latent else settings.integer("head_dim", default=hidden // max(heads, 1)),
        ffn_size=settings.integer("hidden_dim", "inter_dim", default=_llama_ffn(settings, hidden)),
        vocab_size=settings.integer("vocab_size"),
        gated_mlp=True,
        tied_embeddings=settings.flag("enable_weight_tying"),
        latent_attention=latent,
    )
    return with_extras(_with_experts(shape, settings), Extras(head_norm=settings.flag("qk_norm")))


def _flavor(job: Settings) -> ModelShape:
    name, flavor = job.text("name"), job.text("flavor")
    if (name, flavor) not in _FLAVORS:
        known = ", ".join(f"{model} {kind}" for model, kind in _FLAVORS)
        raise InputError(
            f"{job.source}: model '{name}' of flavor '{flavor}' is not known",
            f"known: {known}; or give the model's own arguments (dim, n_layers, ...)",
        )
    return find_preset(_FLAVORS[name, flavor]).shape


def _llama_ffn(settings: Settings, hidden: int) -> int:
    """Llama's rule: two thirds of 4h, times a factor, rounded up to a multiple."""
    size = int(int(2 * 4 * hidden / 3) * settings.number("ffn_dim_multiplier", 1.0))
    multiple = max(settings.integer("multiple_of", default=256), 1)
    return -(-size // multiple) * multiple


def latent_attention(settings: Settings) -> LatentAttention:
    """The sizes of latent attention, by torchtitan's names."""
    return LatentAttention(
        query_rank=settings.integer("q_lora_rank", default=0),
        key_value_rank=settings.integer("kv_lora_rank"),
        plain_head_size=settings.integer("qk_nope_head_dim"),
        rotary_head_size=settings.integer("qk_rope_head_dim"),
        value_head_size=settings.integer("v_head_dim"),
    )


def _with_experts(shape: ModelShape, settings: Settings) -> ModelShape:
    experts = settings.table("moe_args")
    if experts is None or not settings.flag("moe_enabled", default=True):
        return shape
    dense = settings.integer("n_dense_layers", default=0)
    step = max(settings.integer("interleave_moe_layer_step", default=1), 1)
    num_dense, layers = expert_layers(shape.num_layers, lambda layer: layer >= dense and (layer + 1) % step == 0)
    size = settings.integer("moe_inter_dim", default=shape.ffn_size)
    return replace(
        shape,
        num_experts=experts.integer("num_experts", default=8),
        experts_per_token=experts.integer("top_k", default=1),
        expert_ffn_size=size,
        shared_expert_ffn_size=experts.integer("num_shared_experts", default=1) * size,
        num_dense_layers=num_dense,
        moe_layers=layers,
    )
