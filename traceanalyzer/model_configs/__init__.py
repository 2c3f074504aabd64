"""Model shapes from what people have: a Hugging Face `config.json`, Megatron-LM or torchtitan settings, a preset name.

Readers take plain mappings; opening files is for others. What a reader does not understand it refuses by name.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from traceanalyzer.errors import InputError, UsageError
from traceanalyzer.model import ModelShape
from traceanalyzer.model_configs.adapters import is_adapter, with_adapter
from traceanalyzer.model_configs.huggingface import read_huggingface
from traceanalyzer.model_configs.megatron import megatron_arguments, megatron_mapping, read_megatron
from traceanalyzer.model_configs.presets import Preset, find_preset, presets
from traceanalyzer.model_configs.torchtitan import read_torchtitan
from traceanalyzer.model_configs.torchtitan_saved import is_saved, read_saved

__all__ = [
    "Preset",
    "find_preset",
    "megatron_arguments",
    "megatron_mapping",
    "presets",
    "read_huggingface",
    "read_megatron",
    "read_model_config",
    "read_torchtitan",
    "with_adapter",
]


def read_model_config(config: Mapping[str, object], source: str = "the model's configuration") -> ModelShape:
    """The shape in a configuration of any known kind, distinguished by its keys.

    `source` names the file in errors. Raises `InputError` if the kind or the model family is not known, a setting
    is missing or not a number, or a feature would change the count in a way that is not known here.
    """
    if is_adapter(config):
        base = config.get("base_model_name_or_path")
        raise InputError(
            f"{source}: describes an adapter, not the model it adapts{f' ({base})' if base else ''}",
            f"give the base model's config.json and the adapter beside it: --job config.json --adapter {source}",
        )
    try:
        shape = _read(config, source)
    except UsageError as error:  # the sizes themselves make no model
        raise InputError(f"{source}: {error.message}", error.hint) from error
    adapter = config if "peft_type" in config else config.get("adapter")
    if not isinstance(adapter, Mapping):
        return shape
    return with_adapter(shape, cast("Mapping[str, object]", adapter), source)


def _read(config: Mapping[str, object], source: str) -> ModelShape:
    if "model_type" in config or "text_config" in config:
        return read_huggingface(config, source)
    if "num_attention_heads" in config and (
        {"num_layers", "hybrid_layer_pattern", "hybrid_override_pattern"} & set(config)
    ):
        return read_megatron(config, source)
    if is_saved(config):
        return read_saved(config, source)
    if "dim" in config or "model" in config:
        return read_torchtitan(config, source)
    raise InputError(
        f"{source}: neither a Hugging Face config.json nor Megatron-LM arguments nor torchtitan settings",
        "these have the keys 'model_type', 'num_attention_heads' and 'num_layers', or 'dim' (or a [model] table, or 'model_spec')",
    )
