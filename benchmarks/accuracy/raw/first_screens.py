"""First screens of public traces against their raw files: every figure computed a second time, by other code.

    python benchmarks/accuracy/raw/first_screens.py FOLDER

FOLDER holds the sets named in `SETS`; a set that is not there is left out. This folder reads JSON and Parquet by itself and
imports nothing of the package, whose figures it takes from `python -m traceanalyzer analyze SET --json -`. Definitions are
those of `docs/definitions.md`. Prints one row per figure: from the raw file, as said, and `differs` where they do.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from device_traces import of_traces
from operations import of_marks, of_study

SETS = (
    "dlrm8-v100", "megatron-tp2-v100", "torchrec-a2a-v100/run4", "torchrec-resnet18", "deepseek-dualpipe-h800",
    "torchao-ep-moe-b200", "nanogpt-h100/baseline", "nanogpt-h100/hook", "nccl-args-a100", "ns-resolution", "ddp-mi300",
    "singles-h100/Qwen_Qwen1.5-0.5B-Chat__1016005.json.gz", "singles-h100/gaunernst_bert-small-uncased__1016001.json.gz",
    "singles-mi300/Qwen_Qwen1.5-0.5B-Chat__1016005.json.gz", "singles-mi300/gaunernst_bert-small-uncased__1016001.json.gz",
    "ascend", "mtia", "megatronapp-pp4-marks/data-1-pipeline-4-tensor-1-pp-aggregated-iter10.json.gz",
    "straggler-op-table-SE", "straggler-op-table-ST",
)  # fmt: skip


def said(path: Path) -> dict[str, float]:
    """The same figures as the package gives them."""
    command = [sys.executable, "-m", "traceanalyzer", "analyze", str(path), "--json", "-"]
    review = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    owners = {row["owner"]: row["share"] for row in review["accounting"]["owners"]}
    step = review["step"]["duration_ms"]
    found: dict[str, float] = {"step ms": step["median"], "steps": step["num_steps"], "host": owners.get("host", 0.0)}
    found |= {"computing": owners.get("compute", 0.0), "mean window ms": review["accounting"]["mean_step_ms"]}
    found["queued"] = owners.get("queued", 0.0)
    if (communication := review.get("communication")) and communication["exposed_share"] is not None:
        found |= {"exposed": communication["exposed_share"], "hidden": communication["overlapped_share"]}
    if (bubble := review.get("bubble")) and bubble["measured_share"] is not None:
        found["bubble"] = bubble["measured_share"]
    if kernels := review.get("kernels"):
        classes = {row["kind"]: row for row in kernels["classes"]}
        found["gemm ms"] = classes.get("gemm", {"sum_ms": 0.0})["sum_ms"]
        found["longest name ms"] = max(row["sum_ms"] for row in kernels["top"])
    if review["culprits"]:
        worst = review["culprits"][0]
        found |= {"late rank": worst["rank"]}
        if worst["basis"] == "waits":
            found["others wait ms"] = worst["high"]
    if (study := review.get("what_if")) and study["last_stage_share"] is not None:
        found["study: last stage ms"] = study["last_stage_share"] * (study["replayed_ms"] - study["ideal_ms"])
    return found


def of_each_step(raw: dict[str, float], num_steps: float) -> dict[str, float]:
    """Of a capture whose steps no mark shows: its length and sums over the number of steps that the package finds."""
    shared = {key: value / num_steps if key.endswith(" ms") else value for key, value in raw.items()}
    return {key: value for key, value in shared.items() if key != "step ms"}


def main() -> None:
    """Print the table."""
    folder = Path(sys.argv[1])
    print("| set | figure | raw | said | |\n|---|---|---|---|---|")
    for name in SETS:
        path = folder / name
        if not path.exists():
            continue
        files = sorted(path.glob("*.json*")) if path.is_dir() else [path]
        table = next(path.glob("trace-*.parquet"), None) if path.is_dir() else None
        raw = of_study(table) if table else of_marks(path) if "marks" in name else of_traces(files)
        told = said(path)
        raw = of_each_step(raw, told["steps"]) if raw.pop("unmarked", None) else raw
        for key, value in raw.items():
            if key in told:
                far = abs(value - told[key]) > max(0.002 * abs(value), 5e-4)
                print(
                    f"| `{name.partition('__')[0]}` | {key} | {value:.4f} | {told[key]:.4f} | {'differs' if far else ''} |"
                )


if __name__ == "__main__":
    main()
