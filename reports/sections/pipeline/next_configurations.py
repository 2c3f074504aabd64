"""The best changes of the configuration, beside the schedules to try next."""

from __future__ import annotations

from reports.page.grids import grid
from reports.page.model import Note, Section
from reports.sections.material import Material
from traceanalyzer.review import NextConfigurations
from traceanalyzer.review.words import milliseconds, percent, quantity, spaced


def section(material: Material) -> Section | None:
    """Configurations to try next; None of a run without devices."""
    found = material.review.next_configurations
    if found is None:
        return None
    title = "Configurations to try next"
    if found.reason is not None:
        return material.section(
            "next-configurations", title, [], absent=f"{found.reason[:1].upper()}{found.reason[1:]}."
        )
    if not found.options:
        text = f"No single change of {found.configuration} is predicted to save 0.5% of the step and to fit."
        return material.section(
            "next-configurations", title, [Note(text=text), *_too_large(found)], lead=_lead(material)
        )
    table = grid(
        "configurations",
        "The best change of each decision, at most three",
        found.options,
        [
            ("saves", lambda o: o.saves_ms, "ms"),
            ("at least", lambda o: o.saves_low_ms, "ms"),
            ("at most", lambda o: o.saves_high_ms, "ms"),
            ("step", lambda o: o.step_ms, "ms"),
            ("memory", lambda o: o.memory_bytes, "bytes"),
            ("left", lambda o: o.headroom_bytes, "bytes"),
            ("decision", lambda o: spaced(o.decision), None),
            ("change", lambda o: o.change, None),
        ],
    )
    return material.section("next-configurations", title, [table, *_too_large(found)], lead=_lead(material))


def _too_large(found: NextConfigurations) -> list[Note]:
    """What would save more and does not fit."""
    large = found.too_large
    if large is None:
        return []
    over = quantity(-large.headroom_bytes, "bytes")
    return [
        Note(
            text=f"{large.change} would save {milliseconds(max(0.0, large.saves_low_ms))} to {milliseconds(large.saves_high_ms)}, but needs {over} more than the device has."
        )
    ]


def _lead(material: Material) -> str:
    found = material.review.next_configurations
    if found is None or found.step_factor is None:
        return ""
    error = "" if found.step_error is None else f", its later steps were {percent(found.step_error)} off"
    taken = "; ".join(found.assumptions)
    return (
        f"Predicted by the model of `plan job` on {found.cluster}, with this run's own rates. This run is {found.configuration}; "
        f"measured ÷ predicted was {found.step_factor:.3g} and scales all predictions{error}. A saving "
        f"lies between the least and the most of several estimates (the plan's price; both orders simulated at this run's own times), "
        f"widened by the step's noise or 1% of it. Savings do not add up. Taken: {taken}."
    )
