"""The page's time axis."""

from __future__ import annotations

NS_PER_MS = 1e6
AXIS = "timeline-x"
"""Name of the one time axis of the page: buttons and keys move it, and every figure of the timeline with it."""


def view(start_ms: float, end_ms: float) -> tuple[float, float]:
    """The x range that shows a window with a margin."""
    width = max(end_ms - start_ms, 1e-6)
    return start_ms - 0.015 * width, end_ms + 0.025 * width
