"""Every colour of the report, by meaning. Colours of marks hold 3:1 contrast against both page backgrounds."""

from __future__ import annotations

LIGHT_PAGE = "#ffffff"
DARK_PAGE = "#0f141a"
DARK_INK_ON_MARK = "#000000"
LIGHT_INK_ON_MARK = "#ffffff"

PHASES = {"F": "#2f72bd", "B": "#c4841d", "I": "#c65f35", "W": "#8763b5"}
PHASE_NAMES = {"F": "forward", "B": "backward", "I": "input gradient", "W": "weight gradient"}
ODD_CHUNKS = {"F": "#4a86c8", "B": "#9c6813", "I": "#a8481f", "W": "#a07fd0"}
"""Second tone of each phase, for every other chunk of a rank."""

BUBBLE_PARTS = {
    "warm-up": "#b5476b",
    "steady": "#d3566f",
    "drain": "#94527f",
    "transfer": "#8763b5",
    "overhead": "#7a8594",
}

OWNERS = {
    "compute": "#2f72bd",
    "transfer": "#8763b5",
    "wait": "#d0574a",
    "communication": "#a3566b",
    "copy": "#0f8a8a",
    "queued": "#b07a2a",
    "launch_gap": "#9a8a1f",
    "host": "#c0638f",
    "unknown": "#7a8594",
}

STEP_PHASES = {
    **PHASES,
    "optimizer": "#1d8a63",
    "grad_sync": "#0f8a8a",
    "before_chunks": "#b5476b",
    "between_chunks": "#d3566f",
    "other": "#7a8594",
}
"""What a step is doing."""

COLLECTIVE_PARTS = {"wait": "#d0574a", "transfer": "#8763b5"}
LOSS = "#c65f35"
RESULT = "#1d8a63"
REFERENCE = "#7a8594"
NEUTRAL_INK = "#78828f"
"""Readable on both pages; the page's script replaces it by the theme's own ink."""
SEQUENTIAL = ("#dbe8f6", "#2f72bd")
"""Ends of the single-hue scale of heat maps: least and most."""

DIVERGING = ("#2f72bd", "#c65f35")
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


WAITS = {"dependency": "#a0708c", "late send": "#b5476b", "late member": "#d0574a"}
"""Waiting, by its cause."""
KERNELS = {
    "gemm": "#1d8a63",
    "attention": "#3c86a8",
    "other": "#7f8c2d",
    "fused": "#0f8a8a",
    "copy": "#8a7355",
    "barrier": "#94527f",
    "transfer": "#8763b5",
    "communication": "#a3566b",
}
"""What a kernel does; `communication` is one whose waiting is not known."""
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
