"""Names of profiler ranges → the phase of training that they mark, whatever else they say.

A loop may mark its phases without naming stage or microbatch: `attn(F)`, `mlp(W)`, `forward`, `layer3_bwd`,
`Model.forward`. The phase is a word (forward, backward, dgrad, wgrad and their usual short forms) or a letter (F, B, I,
W), in parentheses or first or last in the name. A name that shows two phases, such as `forward_backward`, shows none.
"""

from __future__ import annotations

import polars as pl

from traceanalyzer.schema import PHASE

_WORDS = {
    "F": r"forward|fwd|fprop",
    "B": r"backward|bwd|bprop",
    "I": r"dgrad|igrad|input[ _-]?grad(?:ient)?",
    "W": r"wgrad|weight[ _-]?grad(?:ient)?",
}
_EDGE = r"[\s_.:/#-]"


def phase_of(name: pl.Expr) -> pl.Expr:
    """The phase (`PHASE`) that a name shows; null if it shows none or several."""
    known = {phase: name.str.contains(_pattern(phase, words)) for phase, words in _WORDS.items()}
    one = pl.sum_horizontal(*known.values()) == 1
    return pl.when(one).then(pl.coalesce(*[pl.when(found).then(pl.lit(p)) for p, found in known.items()])).cast(PHASE)


def _pattern(phase: str, words: str) -> str:
    """Words in any case; a letter in parentheses in any case, first or last in the name as a capital."""
    return (
        rf"(?i:\(\s*(?:{words}|{phase})\s*\))|(?i:^(?:{words})(?:{_EDGE}|\d*$))|(?i:{_EDGE}(?:{words})\d*$)"
        rf"|^{phase}(?:[_.:-]|\d*$)|[_.:-]{phase}$"
    )
