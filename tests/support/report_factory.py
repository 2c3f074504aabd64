"""Made-up tables for the report's tests: small runs whose numbers are known by construction."""

from __future__ import annotations

from typing import Any

import polars as pl

from traceanalyzer.schema import ACCOUNTING, ACTIONS, BUBBLE, COLLECTIVE_SPLITS, ROUTING, STEPS, conform

MS = 1_000_000
EPOCH_NS = 1_760_000_000_000_000_000


def one_f_one_b(num_stages: int, num_microbatches: int, stage: int) -> list[tuple[str, int]]:
    warmup = min(num_stages - stage - 1, num_microbatches)
    order = [("F", i) for i in range(warmup)]
    for i in range(num_microbatches - warmup):
        order += [("F", warmup + i), ("B", i)]
    return order + [("B", num_microbatches - warmup + i) for i in range(warmup)]


def pipeline_actions(
    num_stages: int = 4,
    num_microbatches: int = 8,
    steps: tuple[int, ...] = (3, 4, 5),
    forward_ns: int = 50 * MS,
    backward_ns: int = 100 * MS,
    slow_step: int | None = 4,
    origin_ns: int = EPOCH_NS,
) -> pl.DataFrame:
    """1F1B actions on an ideal network, by a fixed-point over the dependencies; `slow_step` runs 3% slower."""
    rows: list[dict[str, Any]] = []
    begin = origin_ns
    for step in steps:
        factor = 103 if step == slow_step else 100
        cost = {"F": forward_ns * factor // 100, "B": backward_ns * factor // 100}
        orders = [one_f_one_b(num_stages, num_microbatches, s) for s in range(num_stages)]
        ends: dict[tuple[int, str, int], int] = {}
        clocks, done = [begin] * num_stages, [0] * num_stages
        while any(done[s] < len(orders[s]) for s in range(num_stages)):
            for s in range(num_stages):
                while done[s] < len(orders[s]):
                    phase, micro = orders[s][done[s]]
                    before = (s - 1, "F", micro) if phase == "F" else (s + 1, "B", micro)
                    if phase == "B" and s == num_stages - 1:
                        before = (s, "F", micro)
                    if 0 <= before[0] < num_stages and before not in ends:
                        break
                    start = max(clocks[s], ends.get(before, begin))
                    end = start + cost[phase]
                    ends[(s, phase, micro)] = clocks[s] = end
                    rows.append(
                        {
                            "rank": s, "step": step, "position": done[s], "stage": s, "phase": phase,
                            "microbatch": micro, "start_ns": start, "end_ns": end,
                        }
                    )  # fmt: skip
                    done[s] += 1
        begin = max(clocks) + 20 * MS
    return pl.DataFrame(rows, schema=ACTIONS).sort("rank", "step", "position")


def bubble_table(actions: pl.DataFrame) -> pl.DataFrame:
    rows = []
    for (step,), of_step in actions.group_by(["step"], maintain_order=True):
        start, end = int(of_step["start_ns"].min()), int(of_step["end_ns"].max())
        for (rank,), own in of_step.group_by(["rank"], maintain_order=True):
            chunk = int((own["end_ns"] - own["start_ns"]).sum())
            warmup = int(own["start_ns"].min()) - start
            drain = end - int(own["end_ns"].max())
            overhead = 2 * MS
            steady = end - start - chunk - warmup - drain - overhead
            span = int(own["end_ns"].max()) - int(own["start_ns"].min())
            rows.append(
                {
                    "rank": rank, "step": step, "pipeline": 0, "phase_start_ns": start, "phase_ns": end - start,
                    "span_ns": span, "chunk_ns": chunk, "warmup_ns": warmup, "steady_ns": max(0, steady),
                    "drain_ns": drain, "transfer_ns": 0, "overhead_ns": overhead if steady >= 0 else 0,
                    "span_dependency_ns": max(0, steady),
                }
            )  # fmt: skip
    return pl.DataFrame(rows, schema=BUBBLE)


def accounting_table(bubble: pl.DataFrame) -> pl.DataFrame:
    rows = []
    for row in bubble.iter_rows(named=True):
        idle = row["phase_ns"] - row["chunk_ns"]
        for owner, cause, phase, duration in (
            ("compute", "action", "F", row["chunk_ns"] // 3),
            ("compute", "action", "B", row["chunk_ns"] - row["chunk_ns"] // 3),
            ("compute", "other", "optimizer", 15 * MS),
            ("wait", "dependency", "between_chunks", idle - idle // 20),
            ("host", None, "between_chunks", idle // 20 + 5 * MS),
            ("unknown", None, "other", 1 * MS),
        ):
            facts = {"rank": row["rank"], "step": row["step"], "owner": owner, "cause": cause}
            rows.append(facts | {"phase": phase, "duration_ns": duration})
    return pl.DataFrame(rows, schema=ACCOUNTING)


def steps_table(actions: pl.DataFrame) -> pl.DataFrame:
    spans = actions.group_by("step").agg(pl.col("start_ns").min(), pl.col("end_ns").max())
    ranks = actions.select("rank").unique()
    return conform(ranks.join(spans, how="cross").with_columns(open_end=False), STEPS)


def expert_tables(
    num_ranks: int = 4, num_experts: int = 8, layers: tuple[int, ...] = (0, 1), hot: int = 1
) -> dict[str, pl.DataFrame]:
    """Routing in which `hot` receives 2.4 times the mean, and the all-to-alls that follow from it."""
    per_rank = num_experts // num_ranks
    routing, collectives = [], []
    cold_share = (num_ranks - 2.4) / (num_ranks - 1)
    for step in (3, 4, 5):
        clock = EPOCH_NS + step * 2_000 * MS
        for layer in layers:
            for source in range(num_ranks):
                for expert in range(num_experts):
                    owner = expert // per_rank
                    mean = 4096 / num_experts
                    weight = 2.4 if owner == hot else cold_share
                    tokens = round(mean * weight * (1 + 0.03 * ((expert + source + layer + step) % 3 - 1)))
                    routing.append(
                        {
                            "step": step, "layer": layer, "group": ",".join(map(str, range(num_ranks))), "rank": source, "expert": expert, "expert_rank": owner,
                            "tokens": tokens, "source": "side_file",
                        }
                    )  # fmt: skip
            for sequence, direction in enumerate(("dispatch", "combine", "combine_backward", "dispatch_backward")):
                begin = clock + sequence * 250 * MS + layer * 1_000 * MS
                late = 180 * MS if direction in {"combine", "dispatch_backward"} else 4 * MS
                for rank in range(num_ranks):
                    wait = 0 if rank == hot else late - rank * MS
                    collectives.append(
                        {
                            "rank": rank, "step": step, "group": ",".join(map(str, range(num_ranks))),
                            "sequence": layer * 4 + sequence, "kind": "all_to_all", "direction": direction,
                            "layer": layer, "start_ns": begin + late - wait, "end_ns": begin + late + 12 * MS,
                            "send_bytes": 1 << 22, "receive_bytes": 1 << 22,
                            "send_splits": [round(4096 * (2.4 if r == hot else cold_share) / num_ranks) for r in range(num_ranks)],
                            "receive_splits": [1024] * num_ranks, "wait_ns": wait, "transfer_ns": 12 * MS,
                            "basis": "clock", "wait_durations_ns": wait, "late_rank": hot,
                        }
                    )  # fmt: skip
    return {
        "routing": pl.DataFrame(routing, schema=ROUTING),
        "collectives": pl.DataFrame(collectives, schema=COLLECTIVE_SPLITS),
    }
