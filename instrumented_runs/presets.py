"""Jobs by name: the kind of a job and the settings that make it."""

from __future__ import annotations

from typing import Any

PRESETS: dict[str, tuple[str, dict[str, Any]]] = {}
"""Name to kind and settings."""
