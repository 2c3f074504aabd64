"""Megatron-LM's arguments that make layers differ from a plain transformer's: counted, or refused by their names."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import cast

from traceanalyzer.errors import InputError
from traceanalyzer.model import GatedDeltaNet, Indexer, Mamba2, ModelShape
from traceanalyzer.model_configs.settings import Settings

_SYMBOLS = {
    "M": ("mamba", "none"),
    "G": ("delta", "none"),
    "*": ("attention", "none"),
    "+": ("attention", "none"),
    "D": ("attention", "none"),
    "-": ("none", "mlp"),
    "E": ("none", "experts"),
}
"""Layers of a hybrid pattern; `|` parts pipeline stages, `/` begins a multi-token-prediction module."""
_ATTENTIONS = {"*": "attention", "+": "latent attention", "D": "sparse latent attention"}

_NOT_COUNTED = (
    "heterogeneous_layers_config_path",
    "heterogeneous_layers_config_encoded_json",
    "retro_add_retriever",
    "decoder_num_layers",
    "enable_hyper_connections",
    "csa_compress_ratios",
    "o_lora_rank",
    "engram_config",
    "lora_rank",
    "lora_dim",
    "peft_scheme",
    "hybrid_attention_ratio",
    "hybrid_mlp_ratio",
    "freeze_LM",
    "freeze_ViT",
    "language_model_type",
    "vision_model_type",
    "export_kd_teacher_load",
)
"""Arguments that change the count in a way that is not known here; those that are 0, false or empty do not."""
_PROGRAMS = ("gpt", "mamba", "hybrid")
"""Programs of Megatron-LM that train what is counted: causal models of text alone."""
_REMEDY = "or declare --flops-per-token or --flops-per-step"
_TERM = re.compile(r"\[([01](?:,[01])*)\](?:\*(\d{1,5}))?")


def refuse_uncounted(settings: Settings) -> None:
    """Raise `InputError` where an argument changes the count and is not counted."""
    program = settings.text("pretraining")
    if program and program not in _PROGRAMS:
        raise _refused(settings, f"pretrain_{program}.py", "trains a model that is not counted from these arguments")
    for name in _NOT_COUNTED:
        value = settings.config.get(name)
        if value not in (None, False, 0, 0.0, "", "none"):
            raise _refused(settings, name, "changes the FLOPs in a way that is not counted")
    if hybrid_pattern(settings):
        return
    if settings.flag("is_hybrid_model"):
        raise _refused(settings, "is_hybrid_model", "is set, but no pattern says what each layer is")
    spec = str(settings.config.get("spec") or "")
    if "mamba" in spec or "hybrid" in spec:
        raise _refused(settings, f"spec {spec}", "names recurrent layers, but no pattern says what each layer is")


def _refused(settings: Settings, name: str, reason: str) -> InputError:
    return InputError(f"{settings.source}: {name} {reason}", f"give the model in another form, {_REMEDY}")


def hybrid_pattern(settings: Settings) -> str:
    """The layers of a hybrid model, one symbol each; empty if there is no pattern."""
    return settings.text("hybrid_layer_pattern") or settings.text("hybrid_override_pattern")


def with_layer_kinds(shape: ModelShape, settings: Settings) -> ModelShape:
    """`shape` with its recurrent and sparse layers, windows and gates. Raises `InputError`."""
    shape = replace(shape, output_gate=settings.flag("attention_output_gate"))
    pattern = hybrid_pattern(settings)
    shape = _hybrid(shape, settings, pattern) if pattern else _variant(shape, settings)
    return _windowed(shape, settings)


def num_layers(settings: Settings) -> int:
    """Layers of the model; a hybrid pattern has one symbol for each."""
    pattern = hybrid_pattern(settings).split("/")[0].replace("|", "")
    if not pattern:
        return settings.num_layers("num_layers")
    if settings.has("num_layers") and settings.num_layers("num_layers") != len(pattern):
        raise InputError(
            f"{settings.source}: the hybrid pattern has {len(pattern)} layers, num_layers is {settings.integer('num_layers')}",
            "correct one of them",
        )
    return len(pattern)


def _hybrid(shape: ModelShape, settings: Settings, pattern: str) -> ModelShape:
    unknown = sorted(set(pattern) - {*_SYMBOLS, "|", "/"})
    if unknown:
        raise InputError(
            f"{settings.source}: the hybrid pattern has '{''.join(unknown)}'",
            f"known symbols: {' '.join(_SYMBOLS)} | /",
        )
    main, *modules = pattern.replace("|", "").split("/")
    modules = modules or _separate_modules(settings)
    if len(set(modules)) > 1:
        raise _refused(settings, "the hybrid pattern", "has prediction modules of several kinds")
    kinds = [_SYMBOLS[symbol] for symbol in main]
    module = [_SYMBOLS[symbol] for symbol in (modules[0] if modules else "")]
    symbols = set(main + "".join(modules))
    return replace(
        _attention_of(shape, settings, symbols),
        mixers=tuple(mixer for mixer, _ in kinds),
        feed_forwards=tuple(part for _, part in kinds),
        num_mtp_layers=len(modules) or shape.num_mtp_layers,
        mtp_mixers=tuple(mixer for mixer, _ in module),
        mtp_feed_forwards=tuple(part for _, part in module),
        mamba=_mamba(settings) if "M" in symbols else None,
        delta=_delta(settings) if "G" in symbols else None,
    )


def _separate_modules(settings: Settings) -> list[str]:
    module = settings.text("mtp_hybrid_override_pattern")
    return [module] * settings.integer("mtp_num_layers", default=1) if module else []


def _attention_of(shape: ModelShape, settings: Settings, symbols: set[str]) -> ModelShape:
    """All attention layers are of one kind: the symbols must agree with each other and with the sizes."""
    used = symbols & set(_ATTENTIONS)
    if len(used) > 1:
        names = ", ".join(_ATTENTIONS[symbol] for symbol in sorted(used))
        raise _refused(settings, "the hybrid pattern", f"mixes {names}")
    if used & {"+", "D"} and shape.latent_attention is None:
        raise _refused(
            settings, "the hybrid pattern", "has latent attention without multi_latent_attention and its sizes"
        )
    return replace(shape, indexer=_indexer(settings)) if "D" in used else shape


def _variant(shape: ModelShape, settings: Settings) -> ModelShape:
    variant = settings.text("experimental_attention_variant") or settings.text("linear_attention_type")
    if not variant:
        return shape
    if variant == "gated_delta_net":
        linear = _linear_layers(settings, shape.num_layers)
        return replace(
            shape,
            mixers=tuple("delta" if is_linear else "attention" for is_linear in linear),
            delta=_delta(settings),
        )
    if variant == "dsa":
        if shape.latent_attention is None:
            raise _refused(settings, "experimental_attention_variant dsa", "needs multi_latent_attention and its sizes")
        return replace(shape, indexer=_indexer(settings))
    raise _refused(settings, f"experimental_attention_variant {variant}", "is not counted")


def _linear_layers(settings: Settings, layers: int) -> list[bool]:
    """`linear_attention_freq`: n keeps attention in every n-th layer; a list or pattern has 1 for a linear layer."""
    given = settings.config.get("linear_attention_freq")
    if given is None:
        raise InputError(
            f"{settings.source}: linear_attention_freq is missing", "add it: it says which layers are linear"
        )
    if isinstance(given, int) and given > 0:
        return [(layer + 1) % given != 0 for layer in range(layers)]
    return [bool(value) for value in layer_flags(settings, "linear_attention_freq", layers)]


def layer_flags(settings: Settings, name: str, layers: int) -> list[object]:
    """A list of 0 and 1 with one entry per layer, or text like `([0]*3+[1]*58)`. Raises `InputError`."""
    given = settings.config.get(name)
    flags = settings.sequence(name) or _expand(str(given), layers)
    if len(flags) != layers or not set(flags) <= {0, 1}:
        raise InputError(
            f"{settings.source}: {name} {given!r} has no 0 or 1 for each of {layers} layers",
            "write a number, a list of 0 and 1, or text like ([0]*3+[1]*58)",
        )
    return flags


def _expand(text: str, layers: int) -> list[object]:
    """The list a pattern such as `([0]*3+[1]*58)` means, without evaluating it; empty if it is none."""
    plain = re.sub(r"[\s'\"]", "", text)
    depth = re.fullmatch(r"\((.*)\)(?:\*(\d{1,5}))?", plain)
    if depth:
        plain = "+".join([depth[1]] * min(int(depth[2] or 1), layers))
    flags: list[object] = []
    for term in plain.split("+"):
        match = _TERM.fullmatch(term)
        if match is None or len(flags) > layers:
            return []
        flags += [int(value) for value in match[1].split(",")] * int(match[2] or 1)
    return flags


def _mamba(settings: Settings) -> Mamba2:
    """Defaults are Megatron-LM's own."""
    size = settings.integer("mamba_head_dim", default=64)
    heads = 2 * settings.integer("hidden_size") // max(size, 1)
    return Mamba2(
        num_heads=settings.integer("mamba_num_heads", default=heads),
        head_size=size,
        state_size=settings.integer("mamba_state_dim", default=128),
        num_groups=settings.integer("mamba_num_groups", default=8),
    )


def _delta(settings: Settings) -> GatedDeltaNet:
    """Defaults are Megatron-LM's own."""
    return GatedDeltaNet(
        num_key_heads=settings.integer("linear_num_key_heads", default=16),
        key_head_size=settings.integer("linear_key_head_dim", default=128),
        num_value_heads=settings.integer("linear_num_value_heads", default=32),
        value_head_size=settings.integer("linear_value_head_dim", default=128),
        conv_size=settings.integer("linear_conv_kernel_dim", default=4),
    )


def _indexer(settings: Settings) -> Indexer:
    """Megatron-LM has no defaults for these."""
    return Indexer(
        num_heads=settings.integer("dsa_indexer_n_heads"),
        head_size=settings.integer("dsa_indexer_head_dim"),
        top_k=settings.integer("dsa_indexer_topk"),
    )


def _windowed(shape: ModelShape, settings: Settings) -> ModelShape:
    """`window_size` keys before a query's own, in all layers but every `window_attn_skip_freq`-th; or chunks."""
    if settings.has("attention_chunk_size"):
        return _chunked(shape, settings)
    window = _window(settings)
    if window is None:
        return shape
    given = settings.config.get("window_attn_skip_freq")
    if given is None:
        layers = list(range(shape.num_layers))
    elif isinstance(given, int) and given > 0:
        layers = [layer for layer in range(shape.num_layers) if (layer + 1) % given]
    else:
        flags = layer_flags(settings, "window_attn_skip_freq", shape.num_layers)
        layers = [layer for layer, flag in enumerate(flags) if flag]
    return replace(shape, attention_window=window, windowed_layers=tuple(layers))


def _window(settings: Settings) -> int | None:
    """Keys of a window, the query's own included; None without a window."""
    given = settings.config.get("window_size")
    if given is None:
        return None
    parts = cast("list[object]", given) if isinstance(given, list | tuple) else re.findall(r"-?\d+", str(given))
    try:
        before, after = (int(str(part)) for part in parts)
    except ValueError:
        raise InputError(f"{settings.source}: window_size is {given!r}", "write two numbers: (1024, 0)") from None
    if after not in (0, -1):
        raise _refused(settings, f"window_size {given!r}", "lets queries read later keys")
    return None if before < 0 else before + 1


def _chunked(shape: ModelShape, settings: Settings) -> ModelShape:
    """Chunks lie in the layers that have rotary positions, as in Llama 4."""
    every = settings.config.get("no_rope_freq")
    if not isinstance(every, int) or isinstance(every, bool) or every < 1:
        raise _refused(
            settings, "attention_chunk_size", "is set, but no_rope_freq does not say which layers have chunks"
        )
    layers = tuple(layer for layer in range(shape.num_layers) if (layer + 1) % every)
    chunk = settings.integer("attention_chunk_size")
    return replace(shape, attention_window=chunk, windowed_layers=layers, chunked_attention=True)
