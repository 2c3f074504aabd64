"""Bytes per parameter of a training recipe: number formats and optimizer, as data with their source."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cache
from importlib import resources

from traceanalyzer.errors import UsageError
from traceanalyzer.spelling import names_hint


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """Bytes of one parameter or one kept element; `data/precision_recipes.csv` has the columns' meaning."""

    name: str
    weight: float
    gradient: float
    master: float
    matrix_moments: float
    other_moments: float
    gathered: float
    activation: float
    linear_input: float
    source: str
    note: str

    @property
    def matrix_optimizer(self) -> float:
        """Master copy and moments of a parameter of a layer's matrices."""
        return self.master + self.matrix_moments

    @property
    def other_optimizer(self) -> float:
        """Master copy and moments of any other parameter."""
        return self.master + self.other_moments


@cache
def recipes() -> dict[str, Recipe]:
    """Every recipe by name."""
    text = resources.files("traceanalyzer").joinpath("data/precision_recipes.csv").read_text(encoding="utf-8")
    rows = csv.DictReader(line for line in text.splitlines() if not line.startswith("#"))
    return {row["name"]: _recipe(row) for row in rows}


def find_recipe(name: str) -> Recipe:
    """The recipe of this name. Raises `UsageError`."""
    found = recipes().get(name.strip().lower())
    if found is None:
        raise UsageError(
            f"there is no training recipe called '{name}'",
            names_hint(name, list(recipes()), "known recipes"),
        )
    return found


def _recipe(row: dict[str, str]) -> Recipe:
    words = {"name", "source", "note"}
    numbers = {key: float(value) for key, value in row.items() if key not in words}
    return Recipe(name=row["name"], source=row["source"], note=row["note"], **numbers)
