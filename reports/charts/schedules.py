"""Schedules as still pictures: one SVG each, for the documentation.

`python -m reports.charts.schedules docs/schedules` draws every schedule anew.
"""

from __future__ import annotations

import sys
from pathlib import Path

import polars as pl

from reports.charts.palette import NEUTRAL_INK, PHASE_NAMES, PHASES, ink_on
from reports.charts.prediction import bars_of
from traceanalyzer.output import write_result
from traceanalyzer.review.words import percent
from traceanalyzer.schedule import ScheduleName
from traceanalyzer.theory.model.stage_times import from_times
from traceanalyzer.theory.prediction.comparison import Prediction, Workload, predict
from traceanalyzer.theory.schedules.known import schedules

NUM_RANKS, NUM_MICROBATCHES, UNIT_NS = 4, 8, 2_000_000
DRAWN = tuple(name for name, record in schedules().items() if record.max_ranks is None)
_UNIT_PIXELS, _ROW, _BAR, _LEFT, _TOP, _BOTTOM = 24.0, 24, 20, 52, 8, 34


def textbook(name: ScheduleName) -> Prediction:
    """4 ranks, 8 microbatches, forward, input- and weight-gradient alike, no latency."""
    cut = from_times(NUM_RANKS, (UNIT_NS, UNIT_NS, UNIT_NS))
    return predict(name, Workload(num_ranks=NUM_RANKS, num_microbatches=NUM_MICROBATCHES, cut=cut))


def drawing(prediction: Prediction) -> str:
    """The schedule as SVG text; one unit of time is the forward of one microbatch on a rank's share of the model."""
    bars, _ = bars_of([prediction])
    simulated = prediction.simulation
    units = simulated.makespan_ns / UNIT_NS
    scale = min(_UNIT_PIXELS, 900 / units)
    width, height = _LEFT + units * scale + 8, _TOP + _ROW * simulated.num_ranks + _BOTTOM
    title = f"{prediction.title}: bubble {percent(simulated.bubble_share)}"
    size = f'viewBox="0 0 {width:.0f} {height}" width="{width:.0f}" height="{height}"'
    style = f'font-family="system-ui, sans-serif" font-size="10" role="img" aria-label="{title}"'
    lines = [f'<svg xmlns="http://www.w3.org/2000/svg" {size} {style}>', f"<title>{title}</title>"]
    for rank in range(simulated.num_ranks):
        y = _TOP + rank * _ROW
        lines.append(_text(_LEFT - 6, y + 14, f"rank {rank}", "end", NEUTRAL_INK))
        lines.append(_box(_LEFT, y, units * scale, _BAR, "#8894a3", 0.18))
    for bar in bars.iter_rows(named=True):
        lines += _bar(bar, scale * 1e6 / UNIT_NS)
    lines += _legend(bars, height - 12, width)
    return "\n".join([*lines, "</svg>", ""])


def _bar(bar: dict[str, float | str], pixels_per_ms: float) -> list[str]:
    color = str(bar["color"])
    left = _LEFT + float(bar["start_ms"]) * pixels_per_ms
    width = (float(bar["end_ms"]) - float(bar["start_ms"])) * pixels_per_ms
    share = float(bar["height"]) / 0.84
    top = _TOP + int(bar["rank"]) * _ROW + (_BAR / 2 if float(bar["offset"]) > 0 else 0)
    drawn = [_box(left, top, width - 0.8, _BAR * share - (0.8 if share < 1 else 0), color, 1.0)]
    number = str(bar["microbatch"])
    if width > 3 + 6 * len(number):
        baseline = top + _BAR * share / 2 + 3.5
        drawn.append(_text(left + width / 2, baseline, number, "middle", ink_on(color), size=10 if share == 1 else 8))
    return drawn


def _legend(bars: pl.DataFrame, y: float, width: float) -> list[str]:
    used = set(bars["phase"].to_list())
    lines: list[str] = []
    x = float(_LEFT)
    for phase, color in PHASES.items():
        if phase in used:
            lines += [
                _box(x, y - 8, 10, 10, color, 1.0),
                _text(x + 14, y + 1, PHASE_NAMES[phase], "start", NEUTRAL_INK),
            ]
            x += 32 + 5.6 * len(PHASE_NAMES[phase])
    return [*lines, _text(width - 8, y + 1, "time →", "end", NEUTRAL_INK)]


def _box(x: float, y: float, width: float, height: float, color: str, opacity: float) -> str:
    faint = f' fill-opacity="{opacity}"' if opacity < 1 else ""
    return f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" fill="{color}"{faint}/>'


def _text(x: float, y: float, text: str, anchor: str, color: str, size: int = 10) -> str:
    smaller = f' font-size="{size}"' if size != 10 else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{color}"{smaller}>{text}</text>'


def main(folder: Path) -> None:
    """Draw every schedule into `folder`."""
    for name in DRAWN:
        write_result(folder / f"{name}.svg", drawing(textbook(name)).encode())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
