"""Builds a wheel with one top-level package.

In the repository `reports` and `instrumented_runs` stand beside `traceanalyzer`. Installed under those names they would collide with
other people's packages, so the wheel holds them as `traceanalyzer.reports` and `traceanalyzer.instrumented_runs`. This hook copies
the three folders with the names in imports changed; an editable installation uses the repository as it is.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

INNER = ("reports", "instrumented_runs")
_NAMES = "|".join(INNER)
_FROM = re.compile(rf"^(\s*)from ({_NAMES})(?=[.\s])", re.MULTILINE)
_IMPORT = re.compile(rf"^(\s*)import ({_NAMES})$", re.MULTILINE)
_STRING = re.compile(rf"(?<=[\"'])({_NAMES})(?=\.[a-z])")


def moved(source: str) -> str:
    """Python text with the inner packages named as the wheel has them."""
    source = _FROM.sub(r"\1from traceanalyzer.\2", source)
    source = _IMPORT.sub(r"\1from traceanalyzer import \2", source)
    return _STRING.sub(r"traceanalyzer.\1", source)


class CustomBuildHook(BuildHookInterface[Any]):
    """Lays out the wheel."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Add the rewritten tree; nothing for an editable installation."""
        if version == "editable":
            return
        self._tree = Path(tempfile.mkdtemp(prefix="wheel-"))
        root = Path(self.root)
        for name in ("traceanalyzer", *INNER):
            target = self._tree / "traceanalyzer" / ("" if name == "traceanalyzer" else name)
            shutil.copytree(
                root / name, target, ignore=shutil.ignore_patterns("__pycache__", "*.pyc"), dirs_exist_ok=True
            )
        for file in self._tree.rglob("*.py"):
            file.write_text(moved(file.read_text(encoding="utf-8")), encoding="utf-8")
        build_data["force_include"][str(self._tree / "traceanalyzer")] = "traceanalyzer"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:  # noqa: ARG002
        """Remove the rewritten tree."""
        shutil.rmtree(getattr(self, "_tree", ""), ignore_errors=True)
