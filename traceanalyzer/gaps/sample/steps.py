"""What is measured step by step: of every captured step, and of the typical ones that figures speak of."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from traceanalyzer.schema import conform
from traceanalyzer.tables import Tables, of_typical_steps


@dataclass(frozen=True, slots=True)
class CapturedSteps:
    """Tables whose rows belong to one step each."""

    tables: Tables
    splits: pl.DataFrame
    """`COLLECTIVE_SPLITS`."""
    messages: pl.DataFrame
    """`P2P_SPLITS`."""
    exchanged: pl.DataFrame
    """`COMMUNICATIONS`."""
    account: pl.DataFrame
    """`ACCOUNTING`."""

    def typical(self) -> CapturedSteps:
        """The typical steps alone; all of this where none was set apart."""
        if not self._has_others:
            return self
        return CapturedSteps(
            of_typical_steps(self.tables),
            *(self._typical(frame) for frame in (self.splits, self.messages, self.exchanged, self.account)),
        )

    def with_others(self, measured: pl.DataFrame, every: pl.DataFrame, schema: pl.Schema) -> pl.DataFrame:
        """`measured` (of typical steps) with the rows of `every` that are of none."""
        if not self._has_others:
            return measured
        others = every.join(self._steps, on="step", how="anti", nulls_equal=True)
        return pl.concat([conform(measured, schema), conform(others, schema)]).sort("rank", "start_ns")

    @property
    def _has_others(self) -> bool:
        return self._steps.height < self.tables.steps["step"].n_unique()

    @property
    def _steps(self) -> pl.DataFrame:
        return self.tables.steps.filter(pl.col("is_typical").fill_null(value=True)).select("step").unique()

    def _typical(self, frame: pl.DataFrame) -> pl.DataFrame:
        return frame.join(self._steps, on="step", how="semi", maintain_order="left")
