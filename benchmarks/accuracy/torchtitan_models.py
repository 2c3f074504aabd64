"""torchtitan's own parameters and FLOPs per token against those of the configuration that it saves; needs torchtitan 0.3.

python benchmarks/accuracy/torchtitan_models.py
"""

from __future__ import annotations

import importlib
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

from traceanalyzer.options.job_file import read_job_file
from traceanalyzer.theory.model.flops import Convention, flops_per_token
from traceanalyzer.theory.model.parameters import parameters

FAMILIES = {
    "deepseek_v3": "deepseekv3_configs",
    "kimi_k2_7": "kimi_k2_5_configs",
    "llama3": "llama3_configs",
    "qwen3": "qwen3_configs",
}
TOKENS = 4096


def row(spec: Any, folder: Path) -> str:  # noqa: ANN401 - torchtitan's
    """Flavor, parameters and FLOPs per token by torchtitan, by its saved configuration, and what that leaves out."""
    path = folder / "config.json"
    saved = {"name": spec.name, "flavor": spec.flavor, "model": spec.model.to_dict()}
    path.write_text(json.dumps({"model_spec": saved}, default=str))
    with torch.device("meta"):
        model = spec.model.build()
    count, flops = spec.model.get_nparams_and_flops(model, TOKENS)
    count -= sum(p.numel() for name, p in model.named_parameters() if "vision_encoder" in name)
    shape = read_job_file(str(path)).model
    if shape is None:
        return f"{spec.name} {spec.flavor}: no model"
    ours = parameters(shape, with_mtp=True).total, flops_per_token(shape, TOKENS, Convention.TORCHTITAN).total
    return f"{spec.name} {spec.flavor}: {(count, flops)} {ours} {shape.not_counted}"


def main() -> None:
    """Print one line per flavor."""
    with tempfile.TemporaryDirectory() as folder:
        for family, configs in FAMILIES.items():
            module = importlib.import_module(f"torchtitan.models.{family}")
            for flavor in getattr(module, configs):
                sys.stdout.write(row(module.model_registry(flavor), Path(folder)) + "\n")
        sys.stdout.write(row(importlib.import_module("torchtitan.models.deepseek_v3").model_registry("671B", num_mtp_layers=1), Path(folder)) + "\n")  # fmt: skip


if __name__ == "__main__":
    main()
