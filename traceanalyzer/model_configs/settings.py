"""Reading numbers out of a configuration somebody else wrote, and what all readers derive in the same way."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import cast

from traceanalyzer.errors import InputError
from traceanalyzer.model import ModelShape

MAX_LAYERS = 10_000
"""More than any model has: a larger number is damage and would only cost time."""


@dataclass(frozen=True, slots=True)
class Settings:
    """A configuration with the name of its file, for errors. A key that is absent and one that is null are alike."""

    config: Mapping[str, object]
    source: str

    def has(self, key: str) -> bool:
        """Whether `key` is set to something."""
        return self.config.get(key) is not None

    def integer(self, *keys: str, default: int | None = None) -> int:
        """The first of `keys` that is set, a whole number of at least 0."""
        for key in keys:
            value = self.config.get(key)
            if value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int) or value < 0:
                raise InputError(f"{self.source}: '{key}' is {value!r}, not a whole number", "correct this setting")
            return value
        if default is None:
            names = " or ".join(f"'{key}'" for key in keys)
            raise InputError(f"{self.source}: {names} is missing", "add this setting, or give the model by preset")
        return default

    def flag(self, key: str, *, default: bool = False) -> bool:
        """A boolean setting."""
        value = self.config.get(key, default)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise InputError(f"{self.source}: '{key}' is {value!r}, not true or false", "correct this setting")
        return value

    def number(self, key: str, default: float) -> float:
        """A number."""
        value = self.config.get(key)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise InputError(f"{self.source}: '{key}' is {value!r}, not a number", "correct this setting")
        return float(value)

    def text(self, key: str, default: str = "") -> str:
        """A text, or `default`."""
        value = self.config.get(key)
        return value if isinstance(value, str) else default

    def sequence(self, key: str) -> list[object]:
        """A list; empty if absent."""
        value = self.config.get(key)
        return list(cast("list[object]", value)) if isinstance(value, list | tuple) else []

    def table(self, key: str) -> Settings | None:
        """A nested table."""
        value = self.config.get(key)
        if not isinstance(value, Mapping):
            return None
        return Settings(cast("Mapping[str, object]", value), f"{self.source}, '{key}'")

    def num_layers(self, *keys: str) -> int:
        """A number of layers, at least one."""
        value = self.integer(*keys)
        if not 1 <= value <= MAX_LAYERS:
            raise InputError(f"{self.source}: {value} layers", f"give 1 to {MAX_LAYERS} layers")
        return value


@dataclass(frozen=True, slots=True, kw_only=True)
class Extras:
    """Parameters that no matrix multiplication reads, beyond the norms every shape has."""

    qkv_bias: bool = False
    output_bias: bool = False
    mlp_bias: bool = False
    """In dense layers and in experts."""
    router_bias: bool = False
    norm_bias: bool = False
    head_norm: bool = False
    """Norms of queries and keys, one weight per element of a head."""
    full_norm: bool = False
    """Norms of queries and keys over all heads together."""
    norms_per_layer: int = 2
    sinks: bool = False
    """One learned attention sink per head."""
    shared_expert_gate: bool = False
    num_positions: int = 0
    """Learned position embeddings."""


def with_extras(shape: ModelShape, extras: Extras) -> ModelShape:
    """`shape` with `extra_parameters` counted. Not for latent attention, which has none of the attention's."""
    per_layer = sum(_layer_extras(shape, extras, layer) for layer in range(shape.num_layers))
    final = shape.hidden_size if extras.norm_bias else 0
    return replace(shape, extra_parameters=per_layer + final + extras.num_positions * shape.hidden_size)


def _layer_extras(shape: ModelShape, extras: Extras, layer: int) -> int:
    hidden = shape.hidden_size
    mixer, feed_forward = shape.mixer(layer), shape.feed_forward(layer)
    norms = (mixer != "none") + (feed_forward != "none")
    count = _attention_extras(shape, extras) if mixer == "attention" else 0
    count += hidden * (extras.norms_per_layer - 2) + norms * hidden * extras.norm_bias
    into_mlp = 2 if shape.gated_mlp else 1
    if feed_forward == "none":
        return count
    if feed_forward == "mlp":
        return count + (into_mlp * shape.ffn_size + hidden) * extras.mlp_bias
    count += shape.num_experts * (into_mlp * shape.expert_ffn_size + hidden) * extras.mlp_bias
    return count + shape.num_experts * extras.router_bias + hidden * extras.shared_expert_gate


def _attention_extras(shape: ModelShape, extras: Extras) -> int:
    heads, groups = shape.num_heads, shape.num_kv_heads
    qkv = (heads * (2 if shape.output_gate else 1) + 2 * groups) * shape.head_size
    count = qkv * extras.qkv_bias + shape.hidden_size * extras.output_bias + heads * extras.sinks
    count += 2 * shape.head_size * extras.head_norm
    return count + (heads + groups) * shape.head_size * extras.full_norm


def expert_layers(num_layers: int, has_experts: Callable[[int], bool]) -> tuple[int, tuple[int, ...]]:
    """`num_dense_layers` and `moe_layers` of a shape whose layer has experts where `has_experts` says so."""
    layers = tuple(layer for layer in range(num_layers) if has_experts(layer))
    first = layers[0] if layers else num_layers
    if layers == tuple(range(first, num_layers)):
        return first, ()
    return first, layers
