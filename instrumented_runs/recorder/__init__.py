"""The recorder of training loops."""

from instrumented_runs.recorder.recording import Recorder

__all__ = ["Recorder"]
