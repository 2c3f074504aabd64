"""Layers of Hugging Face models that differ in kind: Mamba-2, gated delta net, single-part layers, DeepSeek-V4."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from traceanalyzer.errors import InputError
from traceanalyzer.model import CompressedAttention, GatedDeltaNet, Indexer, Mamba2, ModelShape
from traceanalyzer.model_configs.settings import Extras, Settings, with_extras

_LETTERS = {"M": "mamba", "*": "attention", "-": "mlp", "E": "moe"}
_PARTS = {
    "mamba": ("mamba", "none"),
    "linear_attention": ("mamba", "none"),
    "attention": ("attention", "none"),
    "full_attention": ("attention", "none"),
    "mlp": ("none", "mlp"),
    "moe": ("none", "experts"),
}
"""Mixer and feed-forward part of a layer of Nemotron-H, which has one of them."""


def read_mamba2(settings: Settings) -> ModelShape:
    """Mamba-2: every layer is a mixer alone."""
    layers = settings.num_layers("num_hidden_layers")
    mamba = Mamba2(
        num_heads=settings.integer("num_heads"),
        head_size=settings.integer("head_dim"),
        state_size=settings.integer("state_size"),
        num_groups=settings.integer("n_groups"),
        conv_size=settings.integer("conv_kernel"),
        projection_bias=settings.flag("use_bias"),
        conv_bias=settings.flag("use_conv_bias", default=True),
    )
    return ModelShape(
        num_layers=layers,
        hidden_size=settings.integer("hidden_size"),
        num_heads=0,
        num_kv_heads=0,
        head_size=0,
        ffn_size=0,
        vocab_size=settings.integer("vocab_size"),
        tied_embeddings=settings.flag("tie_word_embeddings"),
        mixers=("mamba",) * layers,
        feed_forwards=("none",) * layers,
        mamba=mamba,
    )


def read_nemotron_h(settings: Settings) -> ModelShape:
    """Nemotron-H and Nemotron 3: a layer is a Mamba-2 mixer, attention, an MLP or experts."""
    kinds = _nemotron_layers(settings)
    mixers, parts = zip(*kinds, strict=True)
    has_experts = "experts" in parts
    mtp = settings.integer("num_nextn_predict_layers", default=0)
    mtp_kinds = _mtp_layers(settings) if mtp else []
    shape = ModelShape(
        num_layers=len(kinds),
        hidden_size=settings.integer("hidden_size"),
        num_heads=settings.integer("num_attention_heads"),
        num_kv_heads=settings.integer("num_key_value_heads"),
        head_size=settings.integer("head_dim", "attention_head_dim"),
        ffn_size=settings.integer("intermediate_size"),
        vocab_size=settings.integer("vocab_size"),
        tied_embeddings=settings.flag("tie_word_embeddings"),
        num_experts=settings.integer("n_routed_experts") if has_experts else 0,
        experts_per_token=settings.integer("num_experts_per_tok") if has_experts else 0,
        expert_ffn_size=settings.integer("moe_intermediate_size") if has_experts else 0,
        shared_expert_ffn_size=settings.integer("moe_shared_expert_intermediate_size") if has_experts else 0,
        expert_latent_size=settings.integer("moe_latent_size", default=0) if has_experts else 0,
        mixers=mixers,
        feed_forwards=parts,
        num_mtp_layers=mtp,
        mtp_mixers=tuple(mixer for mixer, _ in mtp_kinds),
        mtp_feed_forwards=tuple(part for _, part in mtp_kinds),
        mamba=Mamba2(
            num_heads=settings.integer("mamba_num_heads"),
            head_size=settings.integer("mamba_head_dim"),
            state_size=settings.integer("ssm_state_size"),
            num_groups=settings.integer("mamba_n_groups", "n_groups"),
            conv_size=settings.integer("mamba_d_conv", "conv_kernel"),
            projection_bias=settings.flag("mamba_proj_bias") or settings.flag("use_bias"),
            conv_bias=settings.flag("use_conv_bias", default=True),
        ),
    )
    bias = settings.flag("attention_bias")
    extras = Extras(qkv_bias=bias, output_bias=bias, mlp_bias=settings.flag("mlp_bias"))
    return with_extras(_windowed(shape, settings), extras)


def _windowed(shape: ModelShape, settings: Settings) -> ModelShape:
    window = settings.integer("sliding_window", default=0)
    layers = tuple(layer for layer in range(shape.num_layers) if shape.mixer(layer) == "attention")
    return replace(shape, attention_window=window, windowed_layers=layers) if window else shape


def _nemotron_layers(settings: Settings) -> list[tuple[str, str]]:
    listed = settings.sequence("layers_block_type") or settings.sequence("layer_types")
    pattern = settings.text("hybrid_override_pattern")
    if not listed and not pattern:
        raise InputError(
            f"{settings.source}: 'layers_block_type' or 'hybrid_override_pattern' is missing",
            "add one of them: it says what each layer is",
        )
    return _parts(settings, listed or list(pattern))


def _mtp_layers(settings: Settings) -> list[tuple[str, str]]:
    listed = settings.sequence("mtp_layers_block_type") or list(settings.text("mtp_hybrid_override_pattern"))
    return _parts(settings, listed or ["attention", "moe"])


def _parts(settings: Settings, layers: Sequence[object]) -> list[tuple[str, str]]:
    names = [_LETTERS.get(str(layer), str(layer)) for layer in layers]
    unknown = sorted(set(names) - set(_PARTS))
    if unknown:
        raise InputError(
            f"{settings.source}: layers of kind {', '.join(unknown)} cannot be counted", f"known: {', '.join(_PARTS)}"
        )
    return [_PARTS[name] for name in names]


def mamba_of(settings: Settings) -> Mamba2:
    """Bamba's and Granite's names of the sizes."""
    heads = settings.integer("mamba_n_heads")
    inner = settings.integer("mamba_expand") * settings.integer("hidden_size")
    given = settings.config.get("mamba_d_head")
    return Mamba2(
        num_heads=heads,
        head_size=settings.integer("mamba_d_head") if isinstance(given, int) else inner // max(heads, 1),
        state_size=settings.integer("mamba_d_state"),
        num_groups=settings.integer("mamba_n_groups"),
        conv_size=settings.integer("mamba_d_conv"),
        projection_bias=settings.flag("mamba_proj_bias"),
        conv_bias=settings.flag("mamba_conv_bias", default=True),
    )


def delta_of(settings: Settings) -> GatedDeltaNet:
    """Qwen3-Next's names of the sizes, which Megatron-LM shares."""
    return GatedDeltaNet(
        num_key_heads=settings.integer("linear_num_key_heads"),
        key_head_size=settings.integer("linear_key_head_dim"),
        num_value_heads=settings.integer("linear_num_value_heads"),
        value_head_size=settings.integer("linear_value_head_dim"),
        conv_size=settings.integer("linear_conv_kernel_dim"),
    )


def indexer_of(settings: Settings) -> Indexer:
    """DeepSeek-V3.2's names of the sizes."""
    return Indexer(
        num_heads=settings.integer("index_n_heads"),
        head_size=settings.integer("index_head_dim"),
        top_k=settings.integer("index_topk"),
    )


def linear_layers(settings: Settings, num_layers: int) -> list[bool]:
    """Which layers mix by a recurrence instead of attention."""
    types = settings.sequence("layer_types") or settings.sequence("layers_block_type")
    if types:
        return [str(kind) in ("linear_attention", "mamba") for kind in types]
    if settings.text("model_type") == "bamba":
        attention = settings.sequence("attn_layer_indices")
        return [layer not in attention for layer in range(num_layers)]
    if settings.text("model_type") == "granitemoehybrid":
        return [True] * num_layers
    interval = max(settings.integer("full_attention_interval", default=4), 1)
    return [(layer + 1) % interval != 0 for layer in range(num_layers)]


_V4_RATIOS = {0: "window", 4: "sparse", 128: "heavy"}
_V4_TYPES = {
    "sliding_attention": "window",
    "compressed_sparse_attention": "sparse",
    "heavily_compressed_attention": "heavy",
}


def with_compressed_attention(shape: ModelShape, settings: Settings) -> ModelShape:
    """DeepSeek-V4: the kind of every layer, the sizes, hyper-connections. Every layer has experts."""
    types = settings.sequence("layer_types")
    ratios = settings.sequence("compress_ratios")
    if types:
        kinds = [_V4_TYPES.get(str(kind)) for kind in types]
    elif ratios:
        kinds = [_V4_RATIOS.get(ratio) if isinstance(ratio, int) else None for ratio in ratios[: shape.num_layers]]
    else:
        kinds = ["sparse" if layer > 1 and layer % 2 else "heavy" for layer in range(shape.num_layers)]
    mixers = tuple(kind for kind in kinds if kind is not None)
    if len(mixers) != len(kinds):
        raise InputError(f"{settings.source}: layer_types or compress_ratios name an unknown kind", "report this model")
    rates = settings.table("compress_rates")
    sizes = CompressedAttention(
        query_rank=settings.integer("q_lora_rank"),
        output_groups=settings.integer("o_groups"),
        output_rank=settings.integer("o_lora_rank"),
        window=settings.integer("sliding_window"),
        sparse_rate=rates.integer("compressed_sparse_attention", default=4) if rates else 4,
        heavy_rate=rates.integer("heavily_compressed_attention", default=128) if rates else 128,
    )
    return replace(
        shape,
        mixers=mixers,
        feed_forwards=("experts",) * shape.num_layers,
        compressed=sizes,
        indexer=indexer_of(settings),
        residual_streams=settings.integer("hc_mult"),
        attention_window=0,
        windowed_layers=(),
    )
