"""What a `config.json` leaves out: `transformers` writes only what differs from its configuration class."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib import resources

import msgspec

from traceanalyzer.model_configs.settings import Settings


@dataclass(frozen=True, slots=True)
class _Defaults:
    source: str
    families: dict[str, dict[str, object]]


@cache
def _defaults() -> _Defaults:
    text = resources.files("traceanalyzer").joinpath("data/config_defaults.json").read_bytes()
    return msgspec.json.decode(text, type=_Defaults)


def with_defaults(settings: Settings, family: str) -> Settings:
    """The settings, completed by those of the family's class."""
    given = {key: value for key, value in settings.config.items() if value is not None}
    return Settings(_defaults().families.get(family, {}) | given, settings.source)
