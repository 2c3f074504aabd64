"""Measures pipeline bubble, all-to-all imbalance and MFU from profiler traces, each against theory.

import traceanalyzer as ta

run = ta.read("runs/first")
result = ta.analyze(run)
result.review, result.tables["kernels"]
ta.report(result, "report.html")
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from instrumented_runs.recorder.recording import Recorder as Recorder
    from traceanalyzer.analysis.run import Run as Run
    from traceanalyzer.api.flow import analyze as analyze
    from traceanalyzer.api.flow import compare as compare
    from traceanalyzer.api.flow import load as load
    from traceanalyzer.api.flow import predict as predict
    from traceanalyzer.api.flow import read as read
    from traceanalyzer.api.flow import report as report
    from traceanalyzer.api.results import ComparisonResult as ComparisonResult
    from traceanalyzer.api.results import PredictionResult as PredictionResult
    from traceanalyzer.api.results import Result as Result
    from traceanalyzer.theory.schedules.orders import order as order
    from traceanalyzer.theory.simulator.simulation import simulate as simulate

from traceanalyzer.version import __version__ as __version__

_HOMES = {
    "ComparisonResult": "traceanalyzer.api.results",
    "PredictionResult": "traceanalyzer.api.results",
    "Recorder": "instrumented_runs.recorder.recording",
    "Result": "traceanalyzer.api.results",
    "Run": "traceanalyzer.analysis.run",
    "analyze": "traceanalyzer.api.flow",
    "compare": "traceanalyzer.api.flow",
    "load": "traceanalyzer.api.flow",
    "order": "traceanalyzer.theory.schedules.orders",
    "predict": "traceanalyzer.api.flow",
    "read": "traceanalyzer.api.flow",
    "report": "traceanalyzer.api.flow",
    "simulate": "traceanalyzer.theory.simulator.simulation",
}
"""Public names and the module of each, imported on first use: `import traceanalyzer` itself loads nothing heavy."""

__all__ = [
    "ComparisonResult",
    "PredictionResult",
    "Recorder",
    "Result",
    "Run",
    "__version__",
    "analyze",
    "compare",
    "load",
    "order",
    "predict",
    "read",
    "report",
    "simulate",
]


def __getattr__(name: str) -> Any:  # noqa: ANN401 - as many types as names
    if name not in _HOMES:
        raise AttributeError(f"module 'traceanalyzer' has no attribute '{name}'")
    found = globals()[name] = getattr(importlib.import_module(_HOMES[name]), name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
