"""Figures of op tables and of marks from their files alone; imports nothing of the package."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import median

import polars as pl
from device_traces import events_of


def of_operations(table: pl.DataFrame) -> dict[str, float]:
    """Step and bubble of an op table: `step`, `pipeline`, `stage`, `virtual`, `phase`, `microbatch`, `start`, `end`."""
    shares: list[float] = []
    last = int(table["virtual"].max())  # type: ignore[arg-type]
    for step in table.partition_by("step"):
        waited = phases = 0.0
        for rows in step.partition_by("pipeline"):
            ends = {(v, p, m): end for v, p, m, end in rows.select("virtual", "phase", "microbatch", "end").iter_rows()}
            low, high = float(rows["start"].min()), float(rows["end"].max())  # type: ignore[arg-type]
            for own in rows.partition_by("stage"):
                before = low
                for v, p, m, end in own.sort("start").select("virtual", "phase", "microbatch", "end").iter_rows():
                    need = (v - 1, "F", m) if p == "F" else (v + 1, "B", m) if v < last else (v, "F", m)
                    waited += max(0.0, ends.get(need, low) - before)
                    before = max(before, end)
                waited += high - before
                phases += high - low
        shares.append(waited / phases)
    return {"bubble": median(shares)}


def of_study(path: Path) -> dict[str, float]:
    rows = pl.read_parquet(path)
    steps = rows.group_by("step").agg(
        (pl.col("start_ts").cast(pl.Float64) + pl.col("duration").cast(pl.Float64)).max()
        - pl.col("start_ts").cast(pl.Float64).min()
    )
    lengths = dict(steps.iter_rows())
    middle = median(lengths.values())
    apart = 1.4826 * median(abs(each - middle) for each in lengths.values())
    kept = [step for step, each in lengths.items() if abs(each - middle) <= max(3 * apart, 0.05 * middle)]
    kept = kept if len(kept) >= 0.9 * len(lengths) else list(lengths)
    computing = rows.filter(pl.col("optype").cast(pl.String).str.ends_with("-compute") & pl.col("step").is_in(kept))
    table = computing.select(
        "step", pl.col("dp_rank").alias("pipeline"), "stage", pl.col("stage").cast(pl.Int64).alias("virtual"),
        pl.when(pl.col("optype").cast(pl.String).str.starts_with("forward")).then(pl.lit("F")).otherwise(pl.lit("B")).alias("phase"),
        pl.col("mb_id").alias("microbatch"), pl.col("start_ts").cast(pl.Float64).alias("start"),
        (pl.col("start_ts").cast(pl.Float64) + pl.col("duration").cast(pl.Float64)).alias("end"),
    )  # fmt: skip
    published = json.loads(next(path.parent.glob("ms-*.json")).read_text())
    return of_operations(table) | {
        "step ms": 1e3 * sorted(lengths[step] for step in kept)[(len(kept) - 1) // 2],
        "steps": len(kept),
        "study: last stage ms": 1e3 * (published["tori"] - published["trem"]),
    }


def of_marks(path: Path) -> dict[str, float]:
    events, _ = events_of(path)
    opened: dict[tuple[str, str], float] = {}
    rows: list[tuple[int, int, int, int, str, int, float, float]] = []
    for event in sorted(
        (e for e in events if e.get("ph") in ("B", "E")), key=lambda e: (float(e["ts"]), e["ph"] == "B")
    ):
        key, arguments = (event["pid"], event["name"]), event.get("args") or {}
        if event["ph"] == "B":
            opened[key] = float(event["ts"])
            continue
        stage, chunk = int(arguments.get("pp_rank", event["pid"])), int(arguments["model_chunk"])
        phase = "F" if event["name"] == "forward" else "B"
        rows.append(
            (0, 0, stage, 4 * chunk + stage, phase, int(arguments["microbatch"]), opened.pop(key), float(event["ts"]))
        )
    columns = ("step", "pipeline", "stage", "virtual", "phase", "microbatch", "start", "end")
    ended = max(float(e["ts"]) for e in events)
    return of_operations(pl.DataFrame(rows, schema=columns, orient="row")) | {"step ms": ended / 1e3}
