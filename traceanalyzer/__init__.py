"""Measures pipeline bubble, all-to-all imbalance and MFU from profiler traces, each against theory.

import traceanalyzer as ta

run = ta.read("runs/first")
review = ta.analyze(run).review
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from traceanalyzer.analysis.assemble import Analysis as Analysis
    from traceanalyzer.analysis.assemble import Run as Run
    from traceanalyzer.analysis.assemble import analyze as analyze
    from traceanalyzer.analysis.assemble import read as read
    from traceanalyzer.theory.schedules.orders import order as order
    from traceanalyzer.theory.simulator.simulation import simulate as simulate

__version__ = "0.1.0"

_HOMES = {
    "Analysis": "traceanalyzer.analysis.assemble",
    "Run": "traceanalyzer.analysis.assemble",
    "analyze": "traceanalyzer.analysis.assemble",
    "order": "traceanalyzer.theory.schedules.orders",
    "read": "traceanalyzer.analysis.assemble",
    "simulate": "traceanalyzer.theory.simulator.simulation",
}
"""Public names and the module of each, imported on first use so that the command line's help stays fast."""

__all__ = ["Analysis", "Run", "__version__", "analyze", "order", "read", "simulate"]


def __getattr__(name: str) -> Any:  # noqa: ANN401 - as many types as names
    if name not in _HOMES:
        raise AttributeError(f"module 'traceanalyzer' has no attribute '{name}'")
    return getattr(importlib.import_module(_HOMES[name]), name)
