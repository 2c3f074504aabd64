"""Known models by name: shapes with published sizes, kept in `data/models.json`."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib import resources

import msgspec

from traceanalyzer.errors import UsageError
from traceanalyzer.model import ModelShape
from traceanalyzer.spelling import names_hint


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """A published model."""

    name: str
    shape: ModelShape
    source: str
    """Where the sizes were published."""


@cache
def presets() -> dict[str, Preset]:
    """Every preset by name."""
    text = resources.files("traceanalyzer").joinpath("data/models.json").read_bytes()
    return {preset.name: preset for preset in msgspec.json.decode(text, type=tuple[Preset, ...])}


def find_preset(name: str) -> Preset:
    """The preset of this name, whatever its case, dots, dashes or underscores. Raises `UsageError`."""
    wanted = _key(name)
    for preset in presets().values():
        if _key(preset.name) == wanted:
            return preset
    raise UsageError(
        f"there is no model called '{name}'",
        f"{names_hint(name, list(presets()), 'known models')}, or give a config.json",
    )


def _key(name: str) -> str:
    return "".join(c for c in name.lower() if c.isalnum())
