"""Made-up reviews for the report's tests, with the tables that belong to them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import polars as pl
from msgspec import to_builtins
from report_factory import (
    MS,
    accounting_table,
    bubble_table,
    expert_tables,
    pipeline_actions,
    steps_table,
)

from traceanalyzer.review import SCHEMA_VERSION, Review

Case = tuple[Review, dict[str, pl.DataFrame]]


NO_MFU = dict.fromkeys(
    (
        "mfu", "hfu", "mfu_wall_clock", "mfu_unprofiled", "flops_per_step", "hardware_flops_per_step", "flops_per_token",
        "tokens_per_step", "peak_flops_per_device", "peak_basis", "num_devices", "convention", "predicted_mfu", "predicted_step_ms",
    )
) | {"conventions": []}  # fmt: skip


def tile(tile_id: str, title: str, **fields: str) -> dict[str, str]:
    blank = {"value_text": "", "theory_text": "", "gap_text": "", "status": "neutral", "note": "", "definition": ""}
    return {"id": tile_id, "title": title, **blank, **fields}


def field(value: object, source: str = "declared") -> dict[str, Any]:
    return {"value": value, "source": source, "confidence": 1.0}


def withheld_causes(what: str, reason: str, *metrics: str, unlock: str | None = None) -> dict[str, Any]:
    return {"what": what, "reason": reason, "unlock": unlock, "metrics": list(metrics)}


def review_of(fields: dict[str, Any]) -> Review:
    """The review that has these fields."""
    return msgspec.convert(fields, Review)


def base_review() -> dict[str, Any]:
    """Every field there, every metric null."""
    return {
        "schema_version": SCHEMA_VERSION,
        "tool": {"name": "traceanalyzer", "version": "0.1.0"},
        "created": "2026-01-02T03:04:05Z",
        "source": {"path": "runs/demo"},
        "files": [{"rank": r, "file": f"traces/rank{r:05d}.json.gz"} for r in range(4)],
        "headline": {"sentences": ["Nothing could be measured."], "tiles": []},
        "warnings": [],
        "validity": {
            "cpu_pressure_share": 0.021, "involuntary_switches_per_second": 3.5, "action_spread": 0.004,
            "verdict": "faithful", "reasons": [],
        },
        "quality": {
            "verdict": "complete", "num_ranks_expected": 4, "num_ranks_found": 4, "num_steps_used": 3,
            "events_seen": 120_345, "events_kept": 120_300, "events_dropped": {"metadata": 45}, "ranks_lost": [],
            "clock_residual_ns": 0, "clock_basis": "same_host", "defects": [], "withheld": [],
        },
        "job": {
            "schedule": field("1F1B"), "num_stages": field(4), "num_microbatches": field(8), "num_chunks": field(1),
            "layout": field({"pp": 4, "dp": 1, "tp": 1, "ep": 1}), "hardware": field({"device": "cpu", "num_devices": 4}),
        },
        "step": {"duration_ms": {"median": None, "p05": None, "p95": None, "values": [], "num_steps": 0}, "open_end": False, "unprofiled_ms": None, "wall_clock_ms": None},
        "accounting": {"owners": [], "phases": [], "ambiguous_ns": None},
        "bubble": None, "all_to_all": None, "mfu": NO_MFU, "waterfall": [], "stragglers": [], "findings": [], "memory": None,
        "method": [{"term": "Bubble", "text": "Pipeline phase less this rank's chunk spans; theory is compared with its dependency part."}],
        "provenance": [{"term": "Seed", "text": "0"}, {"term": "torch", "text": "2.13.0"}],
    }  # fmt: skip


def _pipeline_bubble() -> dict[str, Any]:
    return {
        "measured_share": 0.274, "measured_ratio": 0.377, "share_of_step": 0.27, "span_share": 0.21,
        "overhead_share": 0.001, "phase_ms": 1652.0, "idle_share": 0.275, "transfer_share": None,
        "theory": {
            "closed_form_share": 3 / 11, "closed_form_ratio": 3 / 8, "simulated_share": 3 / 11, "simulated_ratio": 3 / 8,
            "simulated_span_share": 0.21, "simulated_phase_ms": 1650.0, "formula": "(p−1)/(m+p−1)", "schedule": "1F1B",
            "domain": "m ≥ p, uniform stages", "source": "PipeDream-Flush",
        },
        "stages": [
            {
                "stage": [s], "ranks": [s], "dependency_ms": 450.0, "warmup_ms": 50.0 * s, "steady_ms": 450 - 50.0 * s - 100.0 * s,
                "drain_ms": 100.0 * s, "transfer_ms": 0.0, "overhead_ms": 2.0,
                "chunk_ms": 1200.0,
            }
            for s in range(4)
        ],
        "steps": [{"step": 3, "pipeline": 0, "measured_share": 0.2731}, {"step": 4, "pipeline": 0, "measured_share": 0.274}, {"step": 5, "pipeline": 0, "measured_share": 0.2752}],
        "attribution_ms": {
            "measured": 1655.6, "ideal": 1650.0, "schedule": 450.0, "stage": 1.2, "straggler": 0.0, "transfer": 0.0,
            "chunk_comm": 0.0, "host": 4.0, "jitter": 1.4, "slack": -1.0, "outside_sample": 0.0, "unexplained": 0.0,
        },
        "culprits": [{"cause": "host", "culprit": 2, "stages": [2], "ms": 4.0}],
        "blame": [{"waiter": 0, "culprit": 2, "cause": "host", "ms": 3.5 / (1 + i)} for i in range(12)],
        "worth": [{"remedy": "no host delay", "cause": "host", "rank": None, "stage": None, "ms": 4.0}],
    }  # fmt: skip


def pipeline_case() -> Case:
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
        ],
        "withheld_causes": [withheld_causes("MFU", "paced run", "mfu", unlock="run it without pacing")],
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
        "unprofiled_ms": 1662.0,
        "wall_clock_ms": 1669.1,
    }
    review["bubble"] = _pipeline_bubble()
    review["accounting"] = {
        "owners": [{"owner": "compute", "share": 0.727, "ms": 4800.0}, {"owner": "wait", "share": 0.26, "ms": 1710.0}],
        "phases": [{"phase": "F", "owner": "compute", "share": 0.727, "ms": 4800.0}],
        "ambiguous_ns": None,
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
    return review_of(review), tables


def expert_case() -> Case:
    """A paced EP=4 run in which rank 1 receives 2.4 times the mean."""
    tables = expert_tables()
    review = base_review()
    review["headline"] = {
        "sentences": [
            "Rank 1 receives 2.40× the mean number of tokens; chance alone would give 1.03×.",
            "Everyone waits for it: 1 050 ms of rank time per step.",
        ],
        "tiles": [
            tile(
                "all_to_all", "All-to-all imbalance", value_text="2.40×", theory_text="even routing by chance 1.03×",
                gap_text="rank 1 is hot", status="bad", note="received tokens, max ÷ mean over ranks",
                definition="received token copies of the most loaded rank ÷ mean of its group",
            ),
        ],
        "withheld_causes": [withheld_causes("Bubble", "no pipeline in this job", "bubble"), withheld_causes("MFU", "paced run", "mfu")],
    }  # fmt: skip
    del review["job"]["schedule"]
    review["job"] |= {
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
            "byte_to": 120_512, "events_affected": 1, "action": "skipped", "affects": ["all_to_all"], "message": "the file ends inside an event",
            "hint": "copy the trace again",
        }
    ]  # fmt: skip
    review["all_to_all"] = {
        "groups": [
            {
                "ranks": [0, 1, 2, 3], "num_all_to_all": 96, "rank_load_max_over_mean": 2.4, "expert_load_max_over_mean": 2.47,
                "rank_load_max_over_mean_from_splits": 2.4, "combine_wait_ms": 1044.0, "wait_ms": 2290.0, "transfer_ms": 24.0,
            }
        ],
        "wait_share": 0.27, "transfer_share": 0.024, "exposed_share": 0.294, "rank_load_max_over_mean": 2.4,
        "expert_load_max_over_mean": 2.47, "chance_max_over_mean": 1.03, "slowest_rank": 1, "imbalance_cost_ms": 1050.0,
        "bus_bandwidth_gbps": None, "imbalance_cost_spread_ms": 0.4, "loads_source": "side_file",
        "theory": {
            "balanced_max_over_mean": 1.0, "chance_rank": 1.03, "chance_rank_low": 1.02, "chance_rank_high": 1.04,
            "chance_expert": 1.06, "chance_expert_low": 1.04, "chance_expert_high": 1.08, "chance_coverage": 0.99,
            "combine_wait_ms": 1050.0, "time_per_token_us": 100.0,
        },
    }  # fmt: skip
    review["stragglers"] = [{"rank": 1, "stage": [0], "cause": "straggler", "slowdown": 2.4, "cost_ms": 350.0}]
    return review_of(review), tables


def mfu_case() -> Case:
    """A dense one-rank run with real computation: MFU, its conventions and a waterfall."""
    review = base_review()
    review["headline"] = {
        "sentences": ["The job reaches 61.3 % MFU of the measured matrix-multiply peak.", "Attention and the optimizer cost most of the rest."],
        "tiles": [
            tile("mfu", "MFU", value_text="61.3 %", theory_text="of 88.2 GFLOP/s measured peak", gap_text="38.7 points below", status="bad"),
        ],
    }  # fmt: skip
    review["mfu"] = {
        "mfu": 0.613, "hfu": 0.655, "flops_per_step": 4.2e11, "peak_flops_per_device": 8.82e10, "convention": "PaLM, full attention",
        "predicted_mfu": None, "predicted_step_ms": None, "flops_per_token": 4.1e8, "mfu_wall_clock": 0.612, "mfu_unprofiled": 0.622, "tokens_per_step": 1024,
        "hardware_flops_per_step": 4.5e11, "peak_basis": "measured GEMM 1024×1024×1024", "num_devices": 1,
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
        "open_end": False, "unprofiled_ms": 7650.0, "wall_clock_ms": 7771.0,
    }  # fmt: skip
    review["quality"]["withheld"] = [
        {"metric": "bubble", "reason": "no pipeline in this job"},
        {"metric": "all_to_all", "reason": "no experts in this job"},
        {"metric": "mfu.predicted_mfu", "reason": "no prediction for a CPU"},
    ]
    return review_of(review), {}


PAYLOADS = (
    "<script>window.__pwn=1</script>",
    '"><img src=x onerror=window.__pwn=1>',
    "</script><script>window.__pwn=1</script>",
    "<!--<script>",
    "']]>;window.__pwn=1;//",
    "javascript:window.__pwn=1",
    "{{ 7*7 }}{% raw %}",
    r"$$\href{javascript:window.__pwn=1}{x}$$ \(x\) \[y\]",
    "\u202egnp.exe\u2066\u200b\x1b]52;c;x\x07\u2028",
    "=HYPERLINK(1)",
)


def strings(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Paths of all strings in plain data."""
    if isinstance(value, dict | list):
        for key, entry in value.items() if isinstance(value, dict) else enumerate(value):
            yield from strings(entry, (*path, key))
    elif isinstance(value, str):
        yield path


def changed(review: Review, path: tuple[Any, ...], change: Callable[[Any], Any]) -> Review | None:
    """The review with one value changed; None if its schema does not allow it."""
    plain = to_builtins(review)
    target = plain
    for key in path[:-1]:
        target = target[key]
    target[path[-1]] = change(target[path[-1]])
    try:
        return msgspec.convert(plain, Review, str_keys=True)
    except msgspec.ValidationError:
        return None


def hostile(case: Case) -> Case:
    """A case whose every name, sentence and text column is an attack, as far as the schema leaves it open."""
    review, payloads = case[0], itertools.cycle(PAYLOADS)
    for path in strings(to_builtins(review)):
        review = changed(review, path, lambda text: f"{text[:12]}{next(payloads)}") or review
    tables = {
        name: frame.with_columns(
            pl.format("{}" + PAYLOADS[0].replace("{", "").replace("}", ""), pl.col(column)).alias(column)
            for column, dtype in frame.schema.items()
            if dtype == pl.String and column not in {"kind", "group"}
        )
        for name, frame in case[1].items()
    }
    return review, tables
