"""One job, described in every known way: the same shape, the same MFU, from the trace of one rank."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from planted import Faults, Job, Planted, plant

from traceanalyzer.cli import main

HIDDEN, HEADS, FFN, LAYERS, VOCABULARY, SEQUENCE, BATCH = 1024, 16, 4096, 8, 51200, 2048, 64
HUGGING_FACE = {
    "model_type": "llama", "hidden_size": HIDDEN, "num_hidden_layers": LAYERS, "num_attention_heads": HEADS,
    "num_key_value_heads": HEADS, "intermediate_size": FFN, "vocab_size": VOCABULARY, "tie_word_embeddings": False,
}  # fmt: skip
ARGUMENTS = (
    f"--num-layers {LAYERS} --hidden-size {HIDDEN} --num-attention-heads {HEADS} --ffn-hidden-size {FFN} --swiglu "
    f"--vocab-size {VOCABULARY} --seq-length {SEQUENCE} --global-batch-size {BATCH} --bf16 --disable-bias-linear "
    "--untie-embeddings-and-output-weights --normalization RMSNorm --position-embedding-type rope"
)
YAML_CFG = f"""
language_model:
  num_layers: {LAYERS}
  hidden_size: {HIDDEN}
  num_attention_heads: {HEADS}
  num_query_groups: null
  ffn_hidden_size: {FFN}
  activation_func: swiglu
  add_bias_linear: False
  normalization: RMSNorm
model_parallel:
  tensor_model_parallel_size: 1
  bf16: True
untie_embeddings_and_output_weights: True
position_embedding_type: rope
seq_length: {SEQUENCE}
global_batch_size: {BATCH}
vocab_size: {VOCABULARY}
"""
YAML_ARGS = "ENV_VARS:\n  CUDA_DEVICE_MAX_CONNECTIONS: 1\nMODEL_ARGS:\n" + "\n".join(
    f"  --{word.split()[0]}: {word.split()[1] if ' ' in word.strip() else 'true'}" for word in ARGUMENTS.split("--")[1:]
)
TORCHTITAN = f"""
[model]
name = "llama3"
flavor = "8B"
[training]
seq_len = {SEQUENCE}
global_batch_size = 1
mixed_precision_param = "bfloat16"
"""
LLAMA_3_8B = (32, 4096, 1024, 14336, 128256)
"""Layers, width, width of keys and of values, of the feed-forward, words: Meta's table."""
FILES = {
    "config.json": json.dumps(HUGGING_FACE),
    "train.sh": f"torchrun pretrain_gpt.py {ARGUMENTS}",
    "arguments.json": json.dumps(ARGUMENTS.split()),
    "gpt.yaml": YAML_CFG,
    "model_config.yml": YAML_ARGS,
    "job.toml": TORCHTITAN,
}
NEEDED = {"config.json": ["--tokens-per-step", str(SEQUENCE * BATCH), "--sequence-length", str(SEQUENCE)]}


@pytest.fixture(scope="module")
def one_rank(tmp_path_factory: pytest.TempPathFactory) -> Planted:
    job = Job(framework="megatron", labels=None, coalesced=True, metadata="2024", num_microbatches=4)
    return plant(job, Faults(missing_ranks=frozenset({0, 1, 3})), tmp_path_factory.mktemp("planted"))


def review_of(path: Path, out: Path, *options: str) -> dict[str, Any]:
    assert main(["analyze", str(path), "--json", str(out / "review.json"), *options]) == 0
    return msgspec.json.decode((out / "review.json").read_bytes())


def flops_per_token(layers: int, width: int, key_width: int, ffn: int, words: int) -> int:
    """By hand: projections, scores and values over half the sequence, a gated layer's three matrices, logits."""
    keys = SEQUENCE / 2
    layer = 2 * (2 * width**2 + 2 * width * key_width) + 2 * 2 * keys * width + 2 * 3 * width * ffn
    return round(3 * (layers * layer + 2 * width * words))


@pytest.mark.sweep(2)
@pytest.mark.parametrize("name", FILES)
def test_mfu_of_the_declared_job_from_one_rank(name: str, one_rank: Planted, tmp_path: Path) -> None:
    (tmp_path / name).write_text(FILES[name])
    review = review_of(
        one_rank.traces, tmp_path, "--job", str(tmp_path / name), "--dtype", "bf16", *NEEDED.get(name, [])
    )
    sizes, batch = (LLAMA_3_8B, 1) if name == "job.toml" else ((LAYERS, HIDDEN, HIDDEN, FFN, VOCABULARY), BATCH)
    flops = flops_per_token(*sizes) * SEQUENCE * batch
    seconds = review["step"]["duration_ms"]["median"] / 1e3
    assert review["mfu"]["flops_per_step"] == pytest.approx(flops, rel=1e-9)
    assert review["mfu"]["mfu"] == pytest.approx(flops / (seconds * 989.4e12 * 4), rel=1e-3)
    facts = review["job"]
    assert facts["model"]["source"] == "declared"
    assert facts["tokens_per_step"] == {
        "value": SEQUENCE * batch, "source": "declared", "confidence": 1.0, "basis": None,
    }  # fmt: skip
    assert facts["schedule"]["source"] == "inferred"


def test_what_flags_declare_is_in_the_review(one_rank: Planted, tmp_path: Path) -> None:
    flags = {"tokens-per-step": 4096, "sequence-length": 512, "num-devices": 4, "dtype": "bf16", "recompute": "full"}
    options = [text for name, value in flags.items() for text in (f"--{name}", str(value))]
    facts = review_of(one_rank.traces, tmp_path, *options)["job"]
    for name, value in flags.items():
        assert (facts[name.replace("-", "_")]["value"], facts[name.replace("-", "_")]["source"]) == (value, "declared")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.yaml", "a: [1"),
        ("a.yaml", "!!python/object/apply:os.system ['touch x']"),
        ("a.yaml", "- 1\n- 2"),
        ("a.yml", "just words"),
        ("a.yaml", "x: 1\n" * 400_000),
        ("a.yaml", "language_model: {num_layers: many, num_attention_heads: 2}"),
        ("a.json", "[]"),
    ],
)
@pytest.mark.parametrize("command", ["analyze", "predict"])
def test_a_file_that_describes_none_is_one_line_for_every_command(
    command: str, name: str, content: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / name
    path.write_text(content)
    given = {
        "analyze": ["analyze", str(tmp_path), "--job", str(path)],
        "predict": ["predict", "-s", "1f1b", "-p", "2", "-m", "4", "--device", "H100 SXM", "--model", str(path)],
    }
    assert main(given[command]) == 3
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert name in lines[0]


@pytest.mark.parametrize("name", ["train.sh", "arguments.json", "gpt.yaml"])
def test_predict_reads_the_same_files(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / name).write_text(FILES[name])
    given = ["predict", "-s", "1f1b", "-p", "2", "-m", "4", "--device", "H100 SXM", "--model", str(tmp_path / name)]
    assert main([*given, "--json", "-"]) == 0
    figures = json.loads(capsys.readouterr().out)
    (tmp_path / "config.json").write_text(FILES["config.json"])
    assert main([*given[:-1], str(tmp_path / "config.json"), "--json", "-"]) == 0
    again = json.loads(capsys.readouterr().out)
    assert [r["bubble_share"] for r in figures["schedules"]] == [r["bubble_share"] for r in again["schedules"]]
