"""The recorder of training loops."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from instrumented_runs.recorder.recording import Recorder

__all__ = ["Recorder"]


def __getattr__(name: str) -> Any:  # noqa: ANN401 - lazy: the recorder imports torch, `run --help` must not
    if name != "Recorder":
        raise AttributeError(name)
    from instrumented_runs.recorder.recording import Recorder  # noqa: PLC0415

    return Recorder
