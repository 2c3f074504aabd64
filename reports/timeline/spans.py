"""What is drawn: spans of pipeline actions, of waiting, and of kernels by stream, in one shape.

Every span lies on a row of a rank. A communication is two spans, waiting and transfer; where the split is unknown, it is one.
"""

from __future__ import annotations

from typing import Literal

import polars as pl

Layer = Literal["action", "ideal", "wait", "device"]
LAYERS: tuple[Layer, ...] = ("action", "ideal", "wait", "device")
SPANS = {
    "rank": pl.Int32,
    "row": pl.Int32,
    "start_ns": pl.Int64,
    "end_ns": pl.Int64,
    "kind": pl.String,
    "name": pl.String,
    "peer": pl.Int32,
    "match": pl.Int64,
}
"""`row`: stream of the rank, the one that computes most first. `peer`: the rank that is waited for. `match`: same on all members."""
MAX_ROWS = 3
"""Streams of a rank that have a row; the others share the last one."""
WAIT_KINDS = ("dependency", "late send", "late member")
_PLACE = ["rank", "cycle", "index"]
_COMPUTE = ("gemm", "attention", "other", "fused")


def _conform(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.select(pl.col(name).cast(dtype) for name, dtype in SPANS.items()).sort("rank", "row", "start_ns")


def action_spans(actions: pl.DataFrame, *, ordered: bool) -> pl.DataFrame:
    """Pipeline actions; kind is the phase, with a prime on every other chunk of a rank."""
    timed = actions.drop_nulls(["rank", "phase", "start_ns", "end_ns"])
    stages = timed.select("rank", "stage").unique().sort("rank", "stage")
    chunks = stages.with_columns(chunk=pl.int_range(pl.len()).over("rank"))
    number = pl.col("microbatch").cast(pl.String).fill_null("")
    stage = pl.col("stage").cast(pl.String).fill_null("?")
    phase = pl.col("phase").cast(pl.String)
    named = timed.join(chunks, on=["rank", "stage"], how="left", nulls_equal=True)
    return _conform(
        named.with_columns(
            row=pl.lit(0),
            kind=pl.when(pl.col("chunk") % 2 == 1).then(phase + "'").otherwise(phase),
            name=pl.concat_str(stage, phase, number) if ordered else pl.concat_str(stage, phase, pl.lit("#"), number),
            peer=pl.lit(None),
            match=pl.lit(None),
        )
    )


def wait_spans(p2p: pl.DataFrame, collectives: pl.DataFrame) -> pl.DataFrame:
    """Waiting for messages and, outside expert layers, for collectives: what a rank does between its actions."""
    outside = collectives.filter(pl.col("role").cast(pl.String).fill_null("") != "ep")
    return _conform(pl.concat([_message_waits(p2p), _collective_waits(outside)]))


def _message_waits(p2p: pl.DataFrame) -> pl.DataFrame:
    """Per receive first the wait for the producer's computation, then for its send."""
    received = p2p.filter((pl.col("direction") == "receive") & (pl.col("wait_ns") > 0))
    dependency = pl.min_horizontal(pl.col("wait_dependency_ns").fill_null(pl.col("wait_ns")), "wait_ns").clip(0)
    timed = received.with_columns(turn=pl.col("start_ns") + dependency, until=pl.col("start_ns") + pl.col("wait_ns"))
    return pl.concat(
        _wait(timed, kind, start, end, "peer")
        for kind, start, end in (("dependency", "start_ns", "turn"), ("late send", "turn", "until"))
    )


def _collective_waits(collectives: pl.DataFrame) -> pl.DataFrame:
    waited = collectives.filter(pl.col("wait_ns") > 0).with_columns(until=pl.col("start_ns") + pl.col("wait_ns"))
    return _wait(waited, "late member", "start_ns", "until", "late_rank")


def _wait(frame: pl.DataFrame, kind: str, start: str, end: str, peer: str) -> pl.DataFrame:
    return frame.filter(pl.col(end) > pl.col(start)).select(
        "rank",
        row=pl.lit(0),
        start_ns=pl.col(start),
        end_ns=pl.col(end),
        kind=pl.lit(kind),
        name=pl.lit(f"waits: {kind}"),
        peer=pl.col(peer).cast(pl.Int32),
        match=pl.col("match").cast(pl.Int64),
    )


def device_spans(
    kernels: pl.DataFrame, communications: pl.DataFrame, collectives: pl.DataFrame, p2p: pl.DataFrame
) -> pl.DataFrame:
    """Kernels by stream, communication split into waiting and transfer; without a device the communication calls alone."""
    if kernels.is_empty():
        return _conform(pl.concat([_calls(collectives), _calls_of_messages(p2p)]))
    known = _known_communication(communications, collectives, p2p)
    rows = _rows(kernels)
    joined = kernels.select(*_PLACE, "stream", "name", "kind", "start_ns", "end_ns").join(known, on=_PLACE, how="left")
    placed = joined.join(rows, on=["rank", "stream"], how="left", nulls_equal=True).with_columns(
        pl.col("kind").cast(pl.String), pl.col("row").fill_null(0)
    )
    return _conform(_split(placed))


def _rows(kernels: pl.DataFrame) -> pl.DataFrame:
    """The row of each stream of a rank: those that compute first, the busiest first."""
    lasting = pl.col("end_ns") - pl.col("start_ns")
    computing = lasting.filter(pl.col("kind").cast(pl.String).is_in(_COMPUTE)).sum()
    order = (
        kernels.group_by("rank", "stream")
        .agg(computing=computing, lasting=lasting.sum())
        .sort("rank", "computing", "lasting", "stream", descending=[False, True, True, False])
    )
    return order.select(
        "rank", "stream", row=pl.min_horizontal(pl.int_range(pl.len()).over("rank"), pl.lit(MAX_ROWS - 1))
    )


def _known_communication(communications: pl.DataFrame, collectives: pl.DataFrame, p2p: pl.DataFrame) -> pl.DataFrame:
    """Per communication kernel its wait, the culprit, and what joins it with the other members'."""
    matches = collectives.drop_nulls("index").group_by(_PLACE).agg(pl.col("match").first())
    received = p2p.filter(pl.col("direction") == "receive").drop_nulls("index").sort("wait_ns", descending=True)
    messages = received.group_by(_PLACE, maintain_order=True).agg(
        pl.col("wait_dependency_ns").first(), message_peer=pl.col("peer").first().cast(pl.Int32)
    )
    joined = communications.join(matches, on=_PLACE, how="left").join(messages, on=_PLACE, how="left")
    return joined.select(
        *_PLACE,
        "wait_ns",
        "match",
        operation=pl.col("kind"),
        dependency_ns=pl.col("wait_dependency_ns"),
        culprit=pl.coalesce(pl.col("late_rank").cast(pl.Int32), "message_peer"),
    ).unique(_PLACE)


def _split(placed: pl.DataFrame) -> pl.DataFrame:
    """Spans of kernels; communication whose wait is known is cut at its end."""
    end, start = pl.col("end_ns"), pl.col("start_ns")
    messages = pl.col("dependency_ns").is_not_null()
    cut = placed.with_columns(
        turn=pl.min_horizontal(start + pl.col("wait_ns").fill_null(0), end),
        peer=pl.col("culprit"),
    ).with_columns(
        late=pl.when(messages).then(pl.min_horizontal(start + pl.col("dependency_ns").clip(0), "turn")).otherwise(start)
    )
    waiting = pl.col("wait_ns").fill_null(0) > 0
    communicates = pl.col("operation").is_not_null() | (pl.col("kind") == "communication")
    late_kind = pl.when(messages).then(pl.lit("late send")).otherwise(pl.lit("late member"))
    alone = pl.lit(None, pl.Int32)
    parts = [
        cut.filter(waiting & (pl.col("late") > start)).with_columns(end_ns="late", kind=pl.lit("dependency")),
        cut.filter(waiting & (pl.col("turn") > pl.col("late"))).with_columns(
            start_ns="late", end_ns="turn", kind=late_kind
        ),
        cut.filter(communicates & (end > pl.col("turn"))).with_columns(
            start_ns="turn", kind=pl.when(pl.col("wait_ns").is_null()).then(pl.lit("communication")).otherwise(pl.lit("transfer")), peer=alone
        ),
        cut.filter(~communicates).with_columns(peer=alone),
    ]  # fmt: skip
    return pl.concat([part.select(*SPANS) for part in parts])


def computation_spans(owners: pl.DataFrame) -> pl.DataFrame:
    """What ranks without device compute, from `OWNER_SEGMENTS`; neighbours are one span."""
    computing = owners.filter(pl.col("label").cast(pl.String).str.starts_with("compute/")).sort("rank", "start_ns")
    begins = (pl.col("start_ns") != pl.col("end_ns").shift(1).over("rank")).fill_null(value=True)
    joined = computing.with_columns(part=begins.cum_sum().over("rank")).group_by("rank", "part")
    return _conform(
        joined.agg(pl.col("start_ns").min(), pl.col("end_ns").max()).with_columns(
            row=pl.lit(0), kind=pl.lit("computation"), name=pl.lit("computation"), peer=pl.lit(None), match=pl.lit(None)
        )
    )


def _calls(collectives: pl.DataFrame) -> pl.DataFrame:
    """Collectives as calls of the host: what a trace without a device shows."""
    timed = collectives.drop_nulls(["start_ns", "end_ns"]).with_columns(
        name=pl.col("kind").cast(pl.String), turn=pl.col("start_ns") + pl.col("wait_ns").fill_null(0)
    )
    return _two_parts(timed, "late_rank", "late member", row=0)


def _calls_of_messages(p2p: pl.DataFrame) -> pl.DataFrame:
    timed = p2p.filter(pl.col("direction") == "receive").drop_nulls(["start_ns", "end_ns"])
    named = timed.with_columns(name=pl.lit("receive"), turn=pl.col("start_ns") + pl.col("wait_ns").fill_null(0))
    return _two_parts(named, "peer", "dependency", row=1)


def _two_parts(timed: pl.DataFrame, peer: str, kind: str, row: int) -> pl.DataFrame:
    common = {"row": pl.lit(row), "match": pl.col("match").cast(pl.Int64)}
    turn = pl.min_horizontal("turn", "end_ns")
    moved = pl.when(pl.col("wait_ns").is_null()).then(pl.lit("communication")).otherwise(pl.lit("transfer"))
    waits = timed.with_columns(end_ns=turn, kind=pl.lit(kind), peer=pl.col(peer).cast(pl.Int32), **common)
    moves = timed.with_columns(start_ns=turn, kind=moved, peer=pl.lit(None, pl.Int32), **common)
    order = list(SPANS)
    both = [_typed(part.select(order)) for part in (waits, moves)]
    return pl.concat(both).filter(pl.col("end_ns") > pl.col("start_ns"))


def _typed(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.select(pl.col(name).cast(dtype) for name, dtype in SPANS.items())
