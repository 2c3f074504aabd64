"""Every colour of the report, by meaning, one meaning for the whole page.

Colours of marks hold 3:1 contrast against both page backgrounds. Any two that stand in one chart differ by at least 7.5
(CIEDE2000) as people without red, green or blue cones see them (Machado et al. 2009); `tests/reports/charts/test_colors.py`
computes it.
"""

from __future__ import annotations

LIGHT_PAGE = "#ffffff"
DARK_PAGE = "#0f141a"
DARK_INK_ON_MARK = "#000000"
LIGHT_INK_ON_MARK = "#ffffff"

PHASES = {"F": "#3388ee", "B": "#c4841d", "I": "#bb6644", "W": "#8763b5"}
PHASE_NAMES = {"F": "forward", "B": "backward", "I": "input gradient", "W": "weight gradient"}
ODD_CHUNKS = {"F": "#2f72bd", "B": "#9c6813", "I": "#a8481f", "W": "#a07fd0"}
"""Second tone of each phase, for every other chunk of a rank."""

BUBBLE_PARTS = {
    "warm-up": "#aa4466",
    "steady": "#ee6677",
    "drain": "#885588",
    "transfer": "#8763b5",
    "overhead": "#7a8594",
}

OWNERS = {
    "compute": "#3388ee",
    "transfer": "#8763b5",
    "wait": "#ee6666",
    "communication": "#aa4466",
    "copy": "#337777",
    "queued": "#996622",
    "launch_gap": "#9a8a1f",
    "host": "#cc5588",
    "unknown": "#7a8594",
}

STEP_PHASES = {
    **PHASES,
    "optimizer": "#669977",
    "grad_sync": "#337777",
    "before_chunks": "#aa4466",
    "between_chunks": "#ee6677",
    "other": "#7a8594",
}
"""What a step is doing."""

SERIES = ("#3388ee", "#c4841d", "#669977", "#8763b5", "#aa4466", "#337777", "#8a7355", "#7a8594")
"""Runs, schedules or kinds of operations side by side: colours without a meaning of their own."""

COLLECTIVE_PARTS = {"wait": "#ee6666", "transfer": "#8763b5"}
LOSS = "#bb6644"
RESULT = "#669977"
REFERENCE = "#7a8594"
NEUTRAL_INK = "#78828f"
"""Readable on both pages; the page's script replaces it by the theme's own ink."""
SEQUENTIAL = ("#c9dbef", "#2f72bd")
"""Ends of the single-hue scale of heat maps: least and most."""

DIVERGING = ("#2f72bd", "#bb6644")
"""Ends of the scale around the mean: below it, and above it."""
GREY_CELL = "#d5dae1"
"""A cell within chance."""


def luminance(color: str) -> float:
    """Relative luminance of `#rrggbb`, 0 to 1 (WCAG 2.2)."""
    channels = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(first: str, second: str) -> float:
    """Contrast ratio of two colours, 1 to 21 (WCAG 2.2)."""
    low, high = sorted((luminance(first), luminance(second)))
    return (high + 0.05) / (low + 0.05)


def blend(share: float, scale: tuple[str, str] = SEQUENTIAL) -> str:
    """The colour at `share` (0 to 1) of a sequential scale."""
    ends = [[int(color[i : i + 2], 16) for i in (1, 3, 5)] for color in scale]
    mixed = [round(low + (high - low) * min(1.0, max(0.0, share))) for low, high in zip(*ends, strict=True)]
    return "#" + "".join(f"{channel:02x}" for channel in mixed)


def diverge(ratio: float) -> str:
    """The colour of a load ÷ mean: blue below 1, red above, full at 0 and at 2."""
    end = DIVERGING[0] if ratio < 1 else DIVERGING[1]
    return blend(0.2 + 0.8 * min(1.0, abs(ratio - 1)), (GREY_CELL, end))


def ink_on(color: str) -> str:
    """The text colour that reads better on `color`."""
    return max((LIGHT_INK_ON_MARK, DARK_INK_ON_MARK), key=lambda ink: contrast(ink, color))


WAITS = {"dependency": "#a0708c", "late send": "#c02810", "late member": "#ee6666"}
"""Waiting, by its cause."""
KERNELS = {
    "gemm": "#669977",
    "attention": "#4499cc",
    "other": "#7f8c2d",
    "fused": "#448888",
    "copy": "#8a7355",
    "barrier": "#885588",
    "transfer": "#8763b5",
    "communication": "#aa4466",
}
"""What a kernel does; `communication` is one whose waiting is not known."""
HOST_WORK = {"computation": OWNERS["compute"]}
"""What a rank without a device does beside communication; never beside kernels."""
KERNEL_NAMES = {
    "gemm": "matrix multiplication",
    "attention": "attention",
    "other": "other computation",
    "fused": "computation with communication",
    "copy": "copy",
    "barrier": "barrier",
    "transfer": "transfer",
    "communication": "communication (waiting not known)",
}
WAIT_NAMES = {
    "dependency": "waits for computation elsewhere",
    "late send": "waits for a late send",
    "late member": "waits for the last member",
}
