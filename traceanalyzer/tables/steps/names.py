"""Names of ranges → candidates for the steps of a trace.

A *family* is the ranges of one name that differ in one number, such as `train_step_3` and `train_step_4`. Its ranges are
steps if the name says so (`step`, `iter`, `iteration`; not `micro_step`, `eval_step`, `layer`), if the numbers grow and never
restart, if the ranges do not overlap, and if they do not lie inside the ranges of another such family.

Some frameworks repeat one name without a number: Lightning's `[pl][profile]run_training_batch`, `Trainer.training_step`.
"""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from traceanalyzer.tables.steps.candidates import PLACE, Candidate, conform_ranges

PROFILER_STEP = r"^ProfilerStep#(\d{1,9})$"
_NUMBERED = (
    r"(?i)^(?P<before>.*?)(?P<word>iteration|iter|steps?|batch)(?P<between>[\s_#:=.\[(/-]*)(?P<number>\d{1,9})"
    r"(?P<after>(?:\D.*)?)$"
)
_OTHER_LOOPS = (
    r"(?i)micro|accum|forward|backward|fwd|bwd|layer|optim|eval|valid|\bval\b|_val_|^val_|test|infer|decod|generat|prefill"
    r"|denois|diffus|timestep|time_step|sampl|inner|\bsub|sub_?(?:step|iter)|head|expert|chunk|stage|block|bucket|ring"
    r"|sched|\blr|scaler|shard|token|rollout|episode|nccl|kernel"
)
"""Loops that are numbered and no training steps."""
_PLAIN = r"^(?:pre)?(?:train(?:ing|er)?|global|main|outer|loop|run|current|the|my|epoch|of|profiler?|profiling)*$"
"""Letters around the number that change nothing about a step's name."""
_REPEATED = r"(?i)^(?:.*[\].:/ ])?(?:run_)?(?:pre)?train(?:ing)?[ _-]?(?:step|iter|iteration|batch)$|^[#* ]*(?:iteration|iter)[#* ]*$"
MIN_COVERED_SHARE = 0.8
"""Of the time from the first to the last range of a family: less is not a training loop, unless the name is plain."""
MAX_FAMILIES = 50
"""Families looked at, longest first: names are input."""


@dataclass(frozen=True, slots=True)
class _Family:
    basis: str
    rows: pl.DataFrame
    """`RANGES`."""
    is_plain: bool
    is_batch: bool

    @property
    def duration_ns(self) -> int:
        return int(self.rows.select((pl.col("end_ns") - pl.col("start_ns")).sum()).item())


def may_be_steps() -> pl.Expr:
    """Whether the name of a range (`name`) may be that of a step."""
    name = pl.col("name")
    return (name.str.contains(_NUMBERED) | name.str.contains(_REPEATED)) & ~name.str.contains(_OTHER_LOOPS)


def profiler_steps(notes: pl.DataFrame) -> Candidate:
    """`ProfilerStep#N` among ranges of main threads (`rank`, `cycle`, `name`, `start_ns`, `end_ns`)."""
    number = pl.col("name").str.extract(PROFILER_STEP, 1).cast(pl.Int32, strict=False)
    return Candidate("ProfilerStep", conform_ranges(notes.with_columns(number.alias("number")).drop_nulls("number")))


def named_candidates(notes: pl.DataFrame) -> list[Candidate]:
    """Numbered families, then repeated names; of each kind plain names and long ranges first."""
    families = [family for family in _families(notes) if _is_sequence(family.rows, numbered=True)]
    outer = [profiler_steps(notes).ranges, *(family.rows for family in families)]
    numbered = [family for family in families if _is_loop(family) and not _is_nested(family.rows, outer)]
    repeated = [family for family in _repeated(notes) if not _is_nested(family.rows, outer)]
    order = [
        *sorted(numbered, key=lambda family: (not family.is_plain, family.is_batch, -family.duration_ns)),
        *sorted(repeated, key=lambda family: -family.duration_ns),
    ]
    return [
        Candidate(each.basis, each.rows, needs_agreement=each.is_batch or each.rows["number"].null_count() > 0)
        for each in order
    ]


def _families(notes: pl.DataFrame) -> list[_Family]:
    names = notes.select(pl.col("name").unique()).filter(
        pl.col("name").str.contains(_NUMBERED)
        & ~pl.col("name").str.contains(PROFILER_STEP)
        & ~pl.col("name").str.contains(_OTHER_LOOPS)
    )
    if names.is_empty():
        return []
    parts = names.with_columns(pl.col("name").str.extract_groups(_NUMBERED).alias("_p")).unnest("_p")
    digits = r"\d+"
    stem = pl.concat_str(
        pl.col("before").str.replace_all(digits, "#"),
        "word",
        "between",
        pl.lit("N"),
        pl.col("after").str.replace_all(digits, "#"),
    )
    letters = (pl.col("before") + pl.col("after")).str.to_lowercase().str.replace_all(r"[^a-z]", "")
    known = parts.select(
        "name",
        stem.alias("stem"),
        pl.col("number").cast(pl.Int32, strict=False),
        letters.str.contains(_PLAIN).alias("is_plain"),
        ((pl.col("word").str.to_lowercase() == "batch") & ~letters.str.contains("train|global")).alias("is_batch"),
    )
    rows = notes.join(known, on="name").with_columns((pl.col("end_ns") - pl.col("start_ns")).alias("_ns"))
    longest = rows.group_by("stem").agg(pl.col("_ns").sum()).sort("_ns", "stem", descending=[True, False])
    found: list[_Family] = []
    for stem_name in longest["stem"].head(MAX_FAMILIES):
        own = rows.filter(pl.col("stem") == stem_name)
        plain, batch = own.select(pl.col("is_plain").first(), pl.col("is_batch").first()).row(0)
        found.append(_Family(f'range "{stem_name}"', conform_ranges(own), plain, batch))
    return found


def _repeated(notes: pl.DataFrame) -> list[_Family]:
    named = notes.filter(pl.col("name").str.contains(_REPEATED) & ~pl.col("name").str.contains(_OTHER_LOOPS))
    families = [
        _Family(f'range "{name}"', conform_ranges(rows), True, False)
        for (name,), rows in named.group_by("name", maintain_order=True)
    ]
    return [family for family in families if family.rows.height > 1 and _is_sequence(family.rows, numbered=False)]


def _is_sequence(rows: pl.DataFrame, *, numbered: bool) -> bool:
    """On no rank do ranges overlap, and numbers never restart."""
    before = pl.col("end_ns").shift(1).over(PLACE)
    apart = (pl.col("start_ns") >= before).fill_null(value=True)
    grows = (pl.col("number") > pl.col("number").shift(1).over(PLACE)).fill_null(value=True)
    return bool(rows.select((apart & grows if numbered else apart).all()).item())


def _is_loop(family: _Family) -> bool:
    """A plain name, or consecutive numbers whose ranges fill most of their time."""
    if family.is_plain:
        return True
    time = family.rows.group_by(PLACE).agg(
        (pl.col("end_ns") - pl.col("start_ns")).sum().alias("own"),
        (pl.col("end_ns").max() - pl.col("start_ns").min()).alias("span"),
        pl.len().alias("num"),
        (pl.col("number").max() - pl.col("number").min() + 1 == pl.len()).alias("is_consecutive"),
    )
    fills = pl.col("own") >= MIN_COVERED_SHARE * pl.col("span")
    return bool(time.select((fills & (pl.col("num") > 1) & pl.col("is_consecutive")).all()).item())


def _is_nested(rows: pl.DataFrame, others: list[pl.DataFrame]) -> bool:
    """Whether most of these ranges lie inside those of another family."""
    return any(
        _num_inside(rows, other) * 2 > rows.height for other in others if other.height and not other.equals(rows)
    )


def _num_inside(rows: pl.DataFrame, other: pl.DataFrame) -> int:
    around = other.select(*PLACE, pl.col("start_ns").alias("_from"), pl.col("end_ns").alias("_to")).sort("_from")
    placed = rows.sort("start_ns").join_asof(
        around, left_on="start_ns", right_on="_from", by=PLACE, strategy="backward", check_sortedness=False
    )
    return int(placed.select((pl.col("end_ns") <= pl.col("_to")).fill_null(value=False).sum()).item())
