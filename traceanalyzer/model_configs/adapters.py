"""Low-rank adapters beside frozen weights: PEFT's `adapter_config.json`, or the same settings under `adapter`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from traceanalyzer.errors import InputError
from traceanalyzer.model import Adapter, ModelShape
from traceanalyzer.model_configs.settings import Settings

_TARGETS = {
    "q_proj": "query", "query": "query", "q": "query", "wq": "query",
    "k_proj": "key", "key": "key", "k": "key", "wk": "key",
    "v_proj": "value", "value": "value", "v": "value", "wv": "value",
    "o_proj": "output", "out_proj": "output", "o": "output", "wo": "output", "linear_proj": "output",
    "qkv_proj": "qkv", "query_key_value": "qkv", "c_attn": "qkv", "linear_qkv": "qkv", "wqkv": "qkv",
    "gate_proj": "gate", "w1": "gate",
    "up_proj": "up", "w3": "up",
    "down_proj": "down", "w2": "down", "linear_fc2": "down",
    "gate_up_proj": "gate_up", "linear_fc1": "gate_up",
}  # fmt: skip
"""Names of matrices in Hugging Face, Megatron-LM and torchtune models."""
_OUTPUTS = {"lm_head", "output", "embed_out"}
_ALL = ("query", "key", "value", "output", "gate", "up", "down")
_MLP = {"gate", "up", "down", "gate_up"}
_USUAL = ("query", "value")
"""What PEFT takes for most families where no target is named."""
_REMEDY = "or declare --flops-per-token"


def is_adapter(config: Mapping[str, object]) -> bool:
    """Whether the settings are an adapter's, without its base model's sizes."""
    return "peft_type" in config and not {"hidden_size", "num_hidden_layers", "num_layers", "dim", "d_model"} & set(
        config
    )


def with_adapter(shape: ModelShape, adapter: Mapping[str, object], source: str) -> ModelShape:
    """`shape` with everything frozen but the adapter. Raises `InputError` if the adapter cannot be counted."""
    settings = Settings(adapter, source)
    kind = settings.text("peft_type", "LORA").upper()
    if kind != "LORA":
        raise InputError(f"{source}: adapters of type {kind} are not counted", f"known: LORA; {_REMEDY}")
    for name in (
        "rank_pattern",
        "layers_to_transform",
        "target_parameters",
        "exclude_modules",
        "trainable_token_indices",
    ):
        if settings.config.get(name):
            raise InputError(f"{source}: {name} changes the adapter in a way that is not counted", _REMEDY[3:])
    targets = _targets(settings)
    if shape.latent_attention or shape.compressed:
        raise InputError(f"{source}: adapters of latent attention are not counted", _REMEDY[3:])
    if shape.num_experts and _MLP & set(targets):
        raise InputError(f"{source}: adapters of experts are not counted", f"name attention's matrices only, {_REMEDY}")
    saved = {str(name) for name in settings.sequence("modules_to_save")}
    return replace(
        shape,
        adapter=Adapter(rank=settings.integer("r", "rank"), targets=targets, trains_output=bool(saved & _OUTPUTS)),
    )


def _targets(settings: Settings) -> tuple[str, ...]:
    given = settings.config.get("target_modules")
    if given is None:
        return _USUAL
    if given == "all-linear":
        return _ALL
    names = [str(name).rsplit(".", 1)[-1].lower() for name in settings.sequence("target_modules")]
    unknown = sorted({name for name in names if name not in _TARGETS})
    if unknown or not names:
        what = ", ".join(unknown) or repr(given)
        raise InputError(
            f"{settings.source}: target_modules names {what}", f"known: {', '.join(sorted(_TARGETS))}; {_REMEDY}"
        )
    return tuple(dict.fromkeys(_TARGETS[name] for name in names))
