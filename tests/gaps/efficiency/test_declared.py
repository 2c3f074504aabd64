"""MFU of a job that is declared beside its traces: options, files, refusals; and recorded shapes against it."""

from __future__ import annotations

import json
import os
from pathlib import Path

import polars as pl
import pytest
from click.testing import CliRunner

from traceanalyzer.cli import main
from traceanalyzer.cli.analyze import command as analyze_command
from traceanalyzer.gaps.checks.check import Judged
from traceanalyzer.gaps.checks.registry import findings
from traceanalyzer.gaps.efficiency.declaration import Declaration, Training, training
from traceanalyzer.gaps.efficiency.operators import RecordedOperators
from traceanalyzer.gaps.efficiency.peak import Roofs
from traceanalyzer.gaps.efficiency.shapes import efficiency_gap
from traceanalyzer.gaps.efficiency.utilisation import UtilisationGap
from traceanalyzer.measurements.efficiency.recompute import Recomputed
from traceanalyzer.measurements.efficiency.shape_flops import SHAPE_FLOPS
from traceanalyzer.model import ModelShape
from traceanalyzer.model_configs import find_preset
from traceanalyzer.options.declaration import declaration
from traceanalyzer.review import Finding, Mfu, ValidityFigures
from traceanalyzer.schema import RANKS, STEPS, conform
from traceanalyzer.theory.model.flops import Recompute

QWEN = {
    "model_type": "qwen2", "hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16,
    "num_key_value_heads": 16, "intermediate_size": 2816, "vocab_size": 151936, "tie_word_embeddings": True,
}  # fmt: skip
MEGATRON = "torchrun pretrain_gpt.py --num-layers 32 --hidden-size 4096 --num-attention-heads 32 --seq-length 2048 \
 --global-batch-size 64 --vocab-size 50257 --bf16 --recompute-granularity selective"


def ranks(world_size: int | None) -> pl.DataFrame:
    return conform(pl.DataFrame([{"rank": 0, "world_size": world_size}]), RANKS)


def test_files_and_flags_of_a_job(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(QWEN))
    (tmp_path / "train.sh").write_text(MEGATRON)
    (tmp_path / "job.toml").write_text(
        '[model]\nname = "llama3"\nflavor = "8B"\n[training]\nseq_len = 8192\nglobal_batch_size = -1\n'
        '[activation_checkpoint]\nmode = "full"\n'
    )
    found = declaration(job_file=str(tmp_path / "config.json"), tokens_per_step=4096, num_devices=8)
    assert found.model is not None
    assert (found.model.num_layers, found.tokens_per_step, found.num_devices, found.dtype) == (24, 4096, 8, None)
    found = declaration(job_file=str(tmp_path / "train.sh"), sequence_length=1024)
    assert (found.tokens_per_step, found.sequence_length) == (64 * 2048, 1024)
    assert (found.dtype, found.recompute) == ("bf16", "selective")
    found = declaration(job_file=str(tmp_path / "job.toml"))
    assert (found.model, found.tokens_per_step) == (find_preset("llama-3-8b").shape, None)
    assert (found.sequence_length, found.recompute) == (8192, "full")
    assert declaration(job_file="mixtral-8x7b").model == find_preset("mixtral-8x7b").shape


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b"{", 3),
        (b"[1]", 3),
        (b"\xff\xfe", 3),
        (b'{"dim": "wide"}', 3),
        (b"{}", 3),
        (b'{"layout": 1, "compute_mode": 2}', 3),
    ],
)
def test_a_file_that_describes_no_job_is_one_line_and_a_remedy(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes, status: int
) -> None:
    (tmp_path / "job.json").write_bytes(content)
    assert main(["analyze", str(tmp_path), "--job", str(tmp_path / "job.json")]) == status
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert "job.json" in lines[0]


@pytest.mark.parametrize(
    "options",
    [["--job", "no-such-model"], ["--tokens-per-step", "0"], ["--dtype", "int7"], ["--peak-tflops", "-3"]],
)
def test_options_that_make_no_sense_are_wrong_usage(tmp_path: Path, options: list[str]) -> None:
    assert main(["analyze", str(tmp_path), *options]) == 2
    assert main(["report", str(tmp_path), *options]) == 2


def test_what_is_missing_is_named_with_its_option() -> None:
    shape = find_preset("gpt2").shape
    missing = training(None, Declaration(model=shape, sequence_length=1024), ranks(None))
    assert missing == (
        "not known without run.json: tokens per step (--tokens-per-step), the number of devices (--num-devices)"
    )
    found = training(None, Declaration(model=shape, sequence_length=1024, tokens_per_step=10), ranks(16))
    assert isinstance(found, Training)
    assert (found.num_devices, found.recompute) == (16, Recompute.NONE)


SMALL = ModelShape(num_layers=1, hidden_size=4, num_heads=1, num_kv_heads=1, head_size=4, ffn_size=8, vocab_size=10)
# By hand per token: projections 2·4·16 = 128, attention over 6 keys 2·2·4·6 = 96, feed-forward 4·4·8 = 128, logits 80.
FORWARD = 128 + 96 + 128 + 80


def checked(
    flops: list[int], num_devices: int, num_unread: int = 0, covered: float | None = None, declared: str | None = None
) -> list[Finding]:
    """Findings where rank i recorded `flops[i]` in its one step and 12 tokens are declared."""
    rows = [{"rank": rank, "step": 3, "start_ns": 0, "end_ns": 10} for rank in range(len(flops))]
    by_step = pl.DataFrame(
        [{"rank": rank, "step": 3, "flops": count, "num_unread": num_unread} for rank, count in enumerate(flops)],
        schema_overrides={"rank": pl.Int32, "step": pl.Int32},
    )
    timed = pl.DataFrame(schema={**SHAPE_FLOPS, "step": pl.Int32, "duration_ns": pl.Int64})
    trained = Training(
        model=SMALL,
        tokens_per_step=12,
        sequence_length=6,
        num_devices=num_devices,
        dtype=None,
        recompute=Recompute.NONE,
    )
    figures = Mfu(**{**dict.fromkeys(Mfu.__struct_fields__), "conventions": []})
    gap = UtilisationGap(figures, trained, None, Roofs(), True, ())
    again = Recomputed(value="full", basis="by hand")
    operators = RecordedOperators(timed, by_step, pl.DataFrame(), covered, again)
    found = efficiency_gap(operators, gap, conform(pl.DataFrame(rows), STEPS), declared)
    unknown = ValidityFigures(
        verdict="unknown", cpu_pressure_share=None, involuntary_switches_per_second=None, action_spread=None, reasons=[]
    )
    return findings(Judged(validity=unknown, flops=found.flops, recompute=found.recompute))


@pytest.mark.parametrize(("declared", "passed"), [("full", True), ("selective", False), ("none", False)])
def test_declared_recomputation_is_set_against_what_ran(declared: str, *, passed: bool) -> None:
    (finding,) = [f for f in checked([1], 2, declared=declared) if f.id == "recompute.as_declared"]
    assert finding.passed is passed
    assert f"declared {declared}, recorded full: by hand" in finding.evidence


def test_undeclared_recomputation_is_taken_from_the_traces() -> None:
    given = {"model": SMALL, "sequence_length": 6, "tokens_per_step": 12, "num_devices": 1}
    for declared, found, expected, known in [
        (None, None, "none", True), (None, "full", "full", True), ("none", "full", "none", True),
        ("selective", "partial", "selective", True), (None, "partial", "none", False),
    ]:  # fmt: skip
        trained = training(None, Declaration(**given, recompute=declared), ranks(1), found)
        assert isinstance(trained, Training)
        assert (trained.recompute.value, trained.hardware_flops_known) == (expected, known)


def test_recorded_flops_are_set_against_the_declared_job() -> None:
    declared = 3 * FORWARD * 12
    (same,) = checked([declared], 1)
    assert same.passed
    (forward_alone,) = checked([declared // 3], 1)
    assert not forward_alone.passed
    assert "forward pass alone" in (forward_alone.action or "")
    (over_two_ranks,) = checked([declared // 4, declared - declared // 4], 2)
    assert over_two_ranks.passed


def test_a_part_of_the_job_is_never_scaled_up() -> None:
    declared = 3 * FORWARD * 12
    assert checked([declared // 2], 2) == []
    assert checked([declared], 1, num_unread=1) == []
    assert checked([declared], 1, covered=0.9) == []


@pytest.mark.corpus
@pytest.mark.skipif(not os.environ.get("TRACEANALYZER_CORPUS"), reason="TRACEANALYZER_CORPUS names no folder of traces")
def test_one_rank_s_trace_and_a_config_give_mfu_and_name_a_forward_pass(tmp_path: Path) -> None:
    """Qwen1.5-0.5B on one H100, 16 sequences of 559 tokens: a forward pass, which training would triple."""
    trace = next(Path(os.environ["TRACEANALYZER_CORPUS"]).glob("singles-h100/Qwen*"))
    (tmp_path / "config.json").write_text(json.dumps(QWEN))
    out = tmp_path / "review.json"
    options = ["--tokens-per-step", "8944", "--sequence-length", "559", "--num-devices", "1", "--json", str(out)]
    result = CliRunner().invoke(analyze_command, [str(trace), "--job", str(tmp_path / "config.json"), *options])
    review = json.loads(out.read_text())
    assert result.exit_code == 0
    assert review["mfu"]["peak_basis"] == "H100 SXM datasheet, dense bf16"
    (finding,) = (each for each in review["findings"] if each["id"] == "flops.as_declared")
    assert not finding["passed"]
    assert review["roofline"][0]["lost_ms"] > 0
    assert review["mfu"]["mfu"] is None
    (reason,) = (each["reason"] for each in review["quality"]["withheld"] if each["metric"] == "mfu.mfu")
    assert "recorded shapes add up to 6.01 TFLOP" in reason
    assert review["waterfall"] == []
