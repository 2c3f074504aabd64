"""Made-up reviews and tables for the report's tests: small runs whose numbers are known by construction."""

from __future__ import annotations

import json
from typing import Any

import polars as pl

from traceanalyzer.schema import ACCOUNTING, ACTIONS, BUBBLE, COLLECTIVE_SPLITS, ROUTING, STEPS

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
        for owner, cause, duration in (
            ("compute", "action", row["chunk_ns"]),
            ("compute", "other", 15 * MS),
            ("wait", "dependency", idle - idle // 20),
            ("host", None, idle // 20 + 5 * MS),
            ("unknown", None, 1 * MS),
        ):
            rows.append(
                {"rank": row["rank"], "step": row["step"], "owner": owner, "cause": cause, "duration_ns": duration}
            )
    return pl.DataFrame(rows, schema=ACCOUNTING)


def steps_table(actions: pl.DataFrame) -> pl.DataFrame:
    spans = actions.group_by("step").agg(pl.col("start_ns").min(), pl.col("end_ns").max())
    ranks = actions.select("rank").unique()
    return ranks.join(spans, how="cross").with_columns(open_end=False).select(list(STEPS)).cast(dict(STEPS))


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


def tile(tile_id: str, title: str, **fields: str) -> dict[str, str]:
    blank = {"value_text": "", "theory_text": "", "gap_text": "", "status": "neutral", "note": "", "definition": ""}
    return {"id": tile_id, "title": title, **blank, **fields}


def field(value: object, source: str = "declared") -> dict[str, Any]:
    return {"value": value, "source": source, "confidence": 1.0}


def withheld_tile(tile_id: str, title: str, reason: str) -> dict[str, str]:
    return tile(tile_id, title, status="withheld", note=reason)


def base_review() -> dict[str, Any]:
    """Every field there, every metric null."""
    return {
        "schema_version": 1,
        "tool": {"name": "traceanalyzer", "version": "0.1.0"},
        "created": "2026-01-02T03:04:05Z",
        "source": {"path": "runs/demo", "files": [{"rank": r, "file": f"traces/rank{r:05d}.json.gz", "sha256": "ab" * 32} for r in range(4)]},
        "headline": {"sentences": ["Nothing could be measured."], "tiles": []},
        "warnings": [],
        "validity": {
            "cpu_pressure_share": 0.021, "involuntary_switches_per_second": 3.5, "op_spread": 0.004,
            "verdict": "faithful", "reasons": [],
        },
        "quality": {
            "verdict": "complete", "num_ranks_expected": 4, "num_ranks_found": 4, "num_steps_used": 3,
            "events_seen": 120_345, "events_kept": 120_300, "events_dropped": {"metadata": 45},
            "clock_residual_ns": 0, "clock_basis": "one host", "defects": [], "withheld": [],
        },
        "job": {
            "schedule": field("1F1B"), "num_stages": field(4), "num_microbatches": field(8), "num_chunks": field(1),
            "layout": field({"pp": 4, "dp": 1, "tp": 1, "ep": 1}), "model": field(None), "hardware": field({"device": "cpu", "num_devices": 4}),
        },
        "step": {"duration_ms": {"median": None, "p05": None, "p95": None, "values": [], "num_steps": 0}, "open_end": False},
        "accounting": {"owners": []},
        "bubble": None, "all_to_all": None, "mfu": None, "waterfall": [], "stragglers": [], "findings": [], "memory": None,
        "method": [{"term": "Bubble", "text": "Pipeline phase less this rank's chunk spans; theory is compared with its dependency part."}],
        "provenance": [{"term": "Seed", "text": "0"}, {"term": "torch", "text": "2.13.0"}],
    }  # fmt: skip


def pipeline_case() -> tuple[dict[str, Any], dict[str, pl.DataFrame]]:
    """A paced 1F1B run, P=4, M=8: everything about the bubble, MFU withheld."""
    actions = pipeline_actions()
    ideal = pipeline_actions(steps=(0,), slow_step=None, origin_ns=0)
    bubble = bubble_table(actions)
    review = base_review()
    review["headline"] = {
        "sentences": [
            "27.4 % of the pipeline phase is bubble; 1F1B with 4 stages and 8 microbatches cannot go below 27.3 %.",
            "The schedule, not the network or a slow stage, sets the pace: more microbatches would help most.",
        ],
        "tiles": [
            tile(
                "bubble", "Pipeline bubble", value_text="27.4 %", theory_text="1F1B theory 27.3 %", gap_text="0.1 points above",
                status="good", note="median of 3 steps", definition="dependency waiting ÷ pipeline phase",
            ),
            tile("step_time", "Step time", value_text="1 669 ms", theory_text="ideal phase 1 650 ms", gap_text="1.2 % longer", status="neutral"),
            withheld_tile("all_to_all", "All-to-all imbalance", "no experts in this job"),
            withheld_tile("mfu", "MFU", "paced run: computations are stretched by sleeping"),
        ],
    }  # fmt: skip
    review["quality"]["withheld"] = [
        {"metric": "mfu", "reason": "paced run: computations are stretched by sleeping"},
        {"metric": "all_to_all", "reason": "no experts in this job"},
    ]
    review["step"] = {
        "duration_ms": {
            "median": 1669.0,
            "p05": 1668.0,
            "p95": 1718.0,
            "values": [1669.0, 1718.5, 1668.2],
            "num_steps": 3,
        },
        "open_end": False,
    }
    review["bubble"] = {
        "measured_share": 0.274, "measured_ratio": 0.377, "share_of_step": 0.27, "span_share": 0.21,
        "theory": {
            "closed_form_share": 3 / 11, "simulated_share": 3 / 11, "formula": "(p−1)/(m+p−1)", "schedule": "1F1B",
            "domain": "m ≥ p, uniform stages", "source": "PipeDream-Flush",
        },
        "stages": [
            {
                "stage": s, "ranks": [s], "dependency_ms": 450.0, "warmup_ms": 50.0 * s, "steady_ms": 450 - 50.0 * s - 100.0 * s,
                "drain_ms": 100.0 * s, "transfer_ms": 0.0, "overhead_ms": 2.0,
            }
            for s in range(4)
        ],
        "steps": [{"step": 3, "measured_share": 0.2731}, {"step": 4, "measured_share": 0.274}, {"step": 5, "measured_share": 0.2752}],
        "attribution_ms": {
            "schedule": 450.0, "stage": 1.2, "straggler": None, "transfer": 0.0, "chunk_comm": 0.0, "host": 3.0,
            "jitter": 1.4, "slack": 0.0, "outside_sample": 0.0, "unexplained": 0.1,
        },
        "blame": [], "worth": [{"remedy": "16 microbatches instead of 8", "ms": 190.0}],
    }  # fmt: skip
    review["accounting"] = {
        "owners": [{"owner": "compute", "share": 0.727, "ms": 4800.0}, {"owner": "wait", "share": 0.26, "ms": 1710.0}]
    }
    first = actions.filter(pl.col("step") == 3)
    review["findings"] = [
        {
            "id": "bubble.schedule", "title": "The schedule's own bubble is the whole gap", "passed": False, "worth_ms": 190.0,
            "worth_mfu_points": None, "evidence": "450 of 1 650 ms per step are dependency waits on every stage",
            "action": "Raise the number of microbatches to 16", "rank": 0,
            "start_ns": int(first["start_ns"].min()), "end_ns": int(first["end_ns"].min()) + 600 * MS,
        },
        {
            "id": "stage.balance", "title": "Stages are even", "passed": True, "worth_ms": 0.0, "worth_mfu_points": None,
            "evidence": "slowest stage 0.3 % above the mean", "action": "", "rank": None, "start_ns": None, "end_ns": None,
        },
    ]  # fmt: skip
    tables = {
        "actions": actions, "ideal_actions": ideal, "bubble": bubble, "accounting": accounting_table(bubble),
        "steps": steps_table(actions),
    }  # fmt: skip
    return json.loads(json.dumps(review)), tables


def expert_case() -> tuple[dict[str, Any], dict[str, pl.DataFrame]]:
    """A paced EP=4 run in which rank 1 receives 2.4 times the mean."""
    tables = expert_tables()
    review = base_review()
    review["headline"] = {
        "sentences": [
            "Rank 1 receives 2.40× the mean number of tokens; chance alone would give 1.03×.",
            "Everyone waits for it: 1 050 ms of rank time per step.",
        ],
        "tiles": [
            withheld_tile("bubble", "Pipeline bubble", "no pipeline in this job"),
            tile(
                "all_to_all", "All-to-all imbalance", value_text="2.40×", theory_text="even routing by chance 1.03×",
                gap_text="rank 1 is hot", status="bad", note="received tokens, max ÷ mean over ranks",
                definition="received token copies of the most loaded rank ÷ mean of its group",
            ),
            withheld_tile("mfu", "MFU", "paced run: computations are stretched by sleeping"),
        ],
    }  # fmt: skip
    review["job"] |= {
        "schedule": field(None),
        "num_stages": field(1),
        "num_microbatches": field(1),
        "layout": field({"pp": 1, "dp": 4, "tp": 1, "ep": 4}),
    }
    review["warnings"] = ["CPU pressure was 31 % of the measured time: the timeline may be distorted."]
    review["quality"]["withheld"] = [
        {"metric": "bubble", "reason": "no pipeline in this job"},
        {"metric": "mfu", "reason": "paced run: computations are stretched by sleeping"},
        {"metric": "all_to_all.bus_bandwidth_gbps", "reason": "gloo moves data through the host"},
    ]
    review["quality"]["defects"] = [
        {
            "code": "json.truncated", "severity": "loss", "file": "traces/rank00003.json.gz", "rank": 3, "byte_from": 120_000,
            "byte_to": 120_512, "action": "skipped", "affects": ["all_to_all"], "message": "the file ends inside an event",
            "hint": "copy the trace again",
        }
    ]  # fmt: skip
    review["all_to_all"] = {
        "groups": [
            {
                "ranks": [0, 1, 2, 3], "num_all_to_all": 96, "rank_load_max_over_mean": 2.4, "expert_load_max_over_mean": 2.47,
                "chance_max_over_mean": 1.03,
            }
        ],
        "wait_share": 0.27, "transfer_share": 0.024, "exposed_share": 0.294, "rank_load_max_over_mean": 2.4,
        "expert_load_max_over_mean": 2.47, "chance_max_over_mean": 1.03, "slowest_rank": 1, "imbalance_cost_ms": 1050.0,
        "bus_bandwidth_gbps": None, "theory": {"ideal_max_over_mean": 1.0},
    }  # fmt: skip
    review["stragglers"] = [{"rank": 1, "stage": None, "cause": "expert load", "slowdown": 2.4, "cost_ms": 350.0}]
    return json.loads(json.dumps(review)), tables


def mfu_case() -> tuple[dict[str, Any], dict[str, pl.DataFrame]]:
    """A dense one-rank run with real computation: MFU, its conventions and a waterfall."""
    review = base_review()
    review["headline"] = {
        "sentences": ["The job reaches 61.3 % MFU of the measured matrix-multiply peak.", "Attention and the optimizer cost most of the rest."],
        "tiles": [
            withheld_tile("bubble", "Pipeline bubble", "no pipeline in this job"),
            withheld_tile("all_to_all", "All-to-all imbalance", "no experts in this job"),
            tile("mfu", "MFU", value_text="61.3 %", theory_text="of 88.2 GFLOP/s measured peak", gap_text="38.7 points below", status="bad"),
        ],
    }  # fmt: skip
    review["mfu"] = {
        "mfu": 0.613, "hfu": 0.655, "flops_per_step": 4.2e11, "peak_flops_per_device": 8.82e10, "convention": "PaLM, full attention",
        "predicted_mfu": None, "step_ms": 7770.0, "unprofiled_step_ms": 7650.0, "flops_per_token": 4.1e8,
        "conventions": [
            {"name": "PaLM, full attention", "flops_per_step": 4.2e11, "mfu": 0.613},
            {"name": "causal attention", "flops_per_step": 3.9e11, "mfu": 0.569},
            {"name": "6N", "flops_per_step": 3.6e11, "mfu": 0.525},
        ],
    }  # fmt: skip
    review["waterfall"] = [
        {"name": "peak", "ms": 7770.0, "mfu_points": 100.0},
        {"name": "kernels below peak", "ms": 2200.0, "mfu_points": 28.3},
        {"name": "optimizer", "ms": 620.0, "mfu_points": 8.0},
        {"name": "host", "ms": 187.0, "mfu_points": 2.4},
    ]
    review["step"] = {
        "duration_ms": {"median": 7770.0, "p05": 7701.0, "p95": 7835.0, "values": [7770.0, 7690.0, 7840.0, 7762.0, 7801.0], "num_steps": 5},
        "open_end": False,
    }  # fmt: skip
    review["quality"]["withheld"] = [
        {"metric": "bubble", "reason": "no pipeline in this job"},
        {"metric": "all_to_all", "reason": "no experts in this job"},
        {"metric": "mfu.predicted_mfu", "reason": "no prediction for a CPU"},
    ]
    return json.loads(json.dumps(review)), {}
