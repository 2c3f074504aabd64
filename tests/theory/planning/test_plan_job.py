"""Plans: the search against a plain loop, prices against their parts, memory against the theory of memory, formats."""

from __future__ import annotations

import itertools
import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from traceanalyzer.cli import main
from traceanalyzer.cli.options.job_file import read_job_file
from traceanalyzer.errors import DomainError, InputError, UsageError
from traceanalyzer.model import ModelShape
from traceanalyzer.model_configs import find_preset
from traceanalyzer.schedule import ScheduleName
from traceanalyzer.theory.interconnect.dimension_volumes import ContextExchange
from traceanalyzer.theory.interconnect.topology import find_cluster
from traceanalyzer.theory.memory.activations import Kernels, Policy
from traceanalyzer.theory.memory.rank import stage_memory
from traceanalyzer.theory.memory.recipes import find_recipe
from traceanalyzer.theory.planning.formats import WRITERS, first_written, read
from traceanalyzer.theory.planning.formats.settings import Setting
from traceanalyzer.theory.planning.frameworks import ANY, DEEPSPEED, MEGATRON, TORCHTITAN, Framework, find_framework
from traceanalyzer.theory.planning.job import Configuration, PlanJob
from traceanalyzer.theory.planning.plan import plan
from traceanalyzer.theory.planning.prices.pipelines import CHUNKS, Pipeline, bubble_ns, hops
from traceanalyzer.theory.planning.prices.pricing import PARTS, price
from traceanalyzer.theory.planning.published import compare as compare_published
from traceanalyzer.theory.planning.published import published_runs
from traceanalyzer.theory.planning.record import record
from traceanalyzer.theory.planning.search import search
from traceanalyzer.theory.schedules.closed_forms import bubble_share
from traceanalyzer.theory.schedules.orders import check, chunks_per_rank

GIB = 2**30
DENSE = ModelShape(
    num_layers=6,
    hidden_size=512,
    num_heads=8,
    num_kv_heads=4,
    head_size=64,
    ffn_size=1536,
    vocab_size=8000,
    gated_mlp=True,
)
SPARSE = replace(DENSE, num_experts=4, experts_per_token=2, expert_ffn_size=768, num_dense_layers=1)


def job(shape: ModelShape = DENSE, **changes: object) -> PlanJob:
    given = {
        "shape": shape,
        "cluster": find_cluster("DGX A100"),
        "num_devices": 8,
        "sequence_length": 2048,
        "batch_size": 16,
        "recipe": find_recipe("bf16"),
        "framework": ANY,
    }
    return PlanJob(**(given | changes))  # type: ignore[arg-type]


def plain_space(at: PlanJob) -> list[Configuration]:
    """Every configuration that the texts call valid, by plain loops; only whole policies or so many whole layers."""
    shape, n = at.shape, at.num_devices
    found = []
    experts = range(1, shape.num_experts + 1) if shape.num_experts else (1,)
    for tp, cp, pp, ep in itertools.product(range(1, n + 1), range(1, n + 1), range(1, n + 1), experts):
        if n % (tp * cp * pp) or shape.num_heads % tp or pp > shape.num_layers or at.sequence_length % tp:
            continue
        if shape.num_kv_heads % tp and tp % shape.num_kv_heads:
            continue
        if cp > 1 and (at.sequence_length % (2 * cp * tp) or at.sequence_length < 1024 * cp):
            continue
        dp = n // (tp * cp * pp)
        if at.batch_size % dp or (shape.num_experts and shape.num_experts % ep):
            continue
        for etp in {1, tp} if shape.num_experts else {1}:
            if dp * cp * tp % (ep * etp) or (shape.num_experts and shape.expert_ffn_size % etp):
                continue
            places = {"tp": tp, "cp": cp, "pp": pp, "dp": dp, "ep": ep, "etp": etp}
            found += [replace(each, **places) for each in plain_steps(at, dp, pp)]
    return found


def plain_steps(at: PlanJob, dp: int, pp: int) -> list[Configuration]:
    found = []
    schedules = ANY.schedules if pp > 1 else (ScheduleName("GradAccumulation"),)
    for schedule, size, zero in itertools.product(schedules, range(1, at.batch_size // dp + 1), range(4)):
        if at.batch_size % (dp * size):
            continue
        count = at.batch_size // (dp * size)
        for chunks in CHUNKS if chunks_per_rank(schedule) is None else (chunks_per_rank(schedule) or 1,):
            if pp * chunks > at.shape.num_layers or not runs(schedule, pp, count, chunks):
                continue
            one = Configuration(
                zero=zero, schedule=schedule, num_chunks=chunks, microbatch_size=size, num_microbatches=count
            )
            found += [replace(one, policy=policy) for policy in (Policy.NONE, Policy.SELECTIVE, Policy.FULL)]
            most = -(-at.shape.num_layers // (pp * chunks)) * chunks + 1
            found += [
                replace(one, policy=policy, num_recomputed_layers=layers)
                for policy in (Policy.NONE, Policy.SELECTIVE)
                for layers in range(1, most)
            ]
    return found


def runs(schedule: ScheduleName, pp: int, count: int, chunks: int) -> bool:
    try:
        check(schedule, pp, count, chunks)
    except DomainError:
        return False
    if schedule == ScheduleName("ZBVZeroBubble"):
        return count >= 2 * pp - 1
    if schedule == ScheduleName("ZBH1"):
        return count >= pp
    return schedule != ScheduleName("InterleavedZeroBubble") or count % pp == 0


SMALL_SPACES = {
    "all of it fits": (job(num_devices=4, batch_size=8), 0),
    "recomputation is needed": (job(num_devices=4, batch_size=4, memory_bytes=2.3 * GIB), 1),
    "little memory": (job(num_devices=4, batch_size=4, memory_bytes=2.2 * GIB), 1),
    "experts": (job(SPARSE, num_devices=4, batch_size=4, memory_bytes=2.35 * GIB), 1),
    "slow network": (job(cluster=find_cluster("Ethernet"), num_devices=16, batch_size=4, sequence_length=2048), 0),
}


@pytest.mark.parametrize("name", SMALL_SPACES)
def test_the_best_of_small_spaces(name: str) -> None:
    at, tight = SMALL_SPACES[name]
    found = search(at)
    prices = [(*price(at, each)[:2], each.num_recomputed_layers == 0) for each in plain_space(at)]
    fitting = [(step, memory) for step, memory, _ in prices if memory <= at.capacity_bytes]
    whole = [(step, memory) for step, memory, plain in prices if plain]
    assert len(fitting) > 50
    assert tight == (len(fitting) < 0.9 * len(prices))
    assert found.ranked[0].step_ns == pytest.approx(min(step for step, _ in fitting))
    assert [each.step_ns for each in found.ranked] == sorted(each.step_ns for each in found.ranked)
    least = min(memory for _, memory in fitting)
    for front in found.pareto:
        assert front.memory_bytes <= at.capacity_bytes
        assert not any(s < front.step_ns * (1 - 1e-9) and m < front.memory_bytes - 2 * 2**20 for s, m in whole)
    assert found.pareto[-1].memory_bytes == pytest.approx(least, rel=0.01)


@pytest.mark.parametrize("shape", [DENSE, SPARSE], ids=["dense", "experts"])
def test_memory_is_that_of_the_theory_and_parts_add_up(shape: ModelShape) -> None:
    at = job(shape, num_devices=8, batch_size=16)
    space = plain_space(at)
    for each in space[:: max(1, len(space) // 150)]:
        step, memory, parts = price(at, each)
        stages = stage_memory(each.training(at), each.sharding, at.allowance)
        assert memory == pytest.approx(max(held.total for held in stages.values())), each
        assert tuple(parts) == PARTS
        assert step == pytest.approx(sum(parts.values()))
        assert min(parts.values()) >= 0


@pytest.mark.parametrize("schedule", ANY.schedules)
def test_bubbles_are_those_of_the_laws(schedule: ScheduleName) -> None:
    checked = 0
    for p, m, v in itertools.product((2, 4, 8), (4, 8, 16, 32), (2, 3)):
        chunks = v if chunks_per_rank(schedule) is None else chunks_per_rank(schedule) or 1
        for f, b, w in ((1.0, 1.0, 1.0), (1.0, 1.2, 0.8), (1.0, 1.0, 0.5)):
            try:
                law = bubble_share(schedule, p, m, chunks, f, b, w)
                with_hops = bubble_share(schedule, p, m, chunks, f, b, w, hop=1e-3)
            except DomainError:
                continue
            at = (Pipeline(schedule, p, chunks),)
            arrays = [np.array([[time]]) for time in (f, b, w)]
            found = bubble_ns(at, np.array([[float(m)]]), *arrays)[0, 0]
            assert found == pytest.approx(law.bubble), (p, m, chunks)
            latency = (with_hops.bubble - law.bubble) / 1e-3
            assert hops(at[0], m) == pytest.approx(latency, rel=0.35, abs=2.1), (p, m, chunks)
            checked += 1
    assert checked


def test_a_faster_device_and_a_faster_network_never_slow_a_step() -> None:
    at = job(num_devices=16, batch_size=16)
    chosen = Configuration(
        tp=2, pp=2, dp=4, zero=1, schedule=ScheduleName("1F1B"), microbatch_size=1, num_microbatches=4
    )
    step = price(at, chosen)[0]
    for change in ({"near": 600e9}, {"far": 100e9}, {"gemm": 0.95}, {"attention": 0.9}, {"memory": 1.0}):
        assert price(job(num_devices=16, batch_size=16, cluster=replace(at.cluster, **change)), chosen)[0] <= step


def test_what_costs_what() -> None:
    at = job(num_devices=8)
    plain = Configuration(dp=8, zero=0, microbatch_size=1, num_microbatches=2)
    assert price(at, replace(plain, policy=Policy.FULL))[2]["recompute"] > 0
    assert price(at, plain)[2]["recompute"] == price(at, plain)[2]["tp"] == price(at, plain)[2]["bubble"] == 0
    assert price(at, Configuration(tp=8, zero=0, num_microbatches=16))[2]["tp"] > 0
    zero_3 = price(at, replace(plain, zero=3))
    assert zero_3[1] < price(at, replace(plain, zero=2))[1] < price(at, replace(plain, zero=1))[1] < price(at, plain)[1]
    exposed = job(num_devices=8, hidden_data_parallel=False)
    assert price(exposed, replace(plain, zero=3))[2]["dp"] > price(exposed, replace(plain, zero=1))[2]["dp"] > 0


def test_context_parallel_exchanges_hide_behind_attention_in_a_ring_only() -> None:
    chosen = Configuration(cp=8, zero=1, num_microbatches=16)
    long = {"sequence_length": 131072, "num_devices": 8}
    parts = {how: price(job(context_exchange=how, **long), chosen)[2]["cp"] for how in ContextExchange}
    assert parts[ContextExchange.RING] > 0
    assert min(parts.values()) > 0


def test_hot_experts_and_repeated_sends_cost() -> None:
    chosen = Configuration(dp=64, ep=64, zero=1, num_microbatches=1)
    given = {"shape": find_preset("deepseek-v3").shape, "num_devices": 64, "sequence_length": 4096, "batch_size": 64}
    plain, hot, once = (
        price(job(cluster=find_cluster("HGX H800"), **given, **more), chosen)
        for more in ({}, {"load_ratio": 2.0}, {"deduplicated": True})
    )
    assert hot[0] > plain[0] > once[0]
    assert once[2]["ep"] < 0.7 * plain[2]["ep"]


def test_dualpipe_hides_expert_exchanges() -> None:
    given = {"shape": find_preset("qwen3-30b-a3b").shape, "num_devices": 32, "batch_size": 128}
    at = job(**given)
    common = {"pp": 2, "dp": 16, "ep": 16, "num_microbatches": 8}
    folded = price(at, Configuration(**common, schedule=ScheduleName("DualPipeV"), num_chunks=2))
    plain = price(at, Configuration(**common, schedule=ScheduleName("1F1B")))
    assert folded[2]["ep"] < plain[2]["ep"]


def test_plan_explains_itself() -> None:
    planned = plan(job(find_preset("llama-3-8b").shape, num_devices=32, sequence_length=8192, batch_size=128))
    assert [each.step for each in planned.decisions] == ["fit", "batch", "throughput"]
    assert all(each.branch and each.why for each in planned.decisions)
    assert len(planned.rules) == 5
    assert {each.holds for each in planned.rules} <= {True, False, None}
    best = planned.best
    assert best is not None
    assert 0.2 < planned.mfu(best) < 0.8
    assert planned.tokens_per_second(best) == pytest.approx(128 * 8192 / best.step_ns * 1e9)
    plain = record(planned)
    assert json.loads(json.dumps(plain))["ranked"][0]["mfu"] == planned.mfu(best)
    held = max(each["total"] for each in plain["best_memory"])
    assert held == pytest.approx(best.memory_bytes)


def test_nothing_fits() -> None:
    planned = plan(job(find_preset("llama-3-405b").shape, num_devices=8, batch_size=8))
    assert planned.best is None
    assert planned.decisions[0].branch == "nothing fits"
    memory = planned.found.rejections["memory"]
    assert memory.by > 0
    assert memory.count == planned.found.num_priced
    assert memory.nearest


def test_rejections_say_why() -> None:
    found = search(job(num_devices=12, batch_size=7))
    reasons = set(found.rejections)
    assert "the batch does not divide over DP" in reasons
    assert "heads do not divide over TP" in reasons
    assert found.rejections["more stages than layers"].nearest == "PP12"


@pytest.mark.parametrize(
    ("framework", "preset", "devices"),
    [
        (MEGATRON, "llama-3-70b", 64),
        (MEGATRON, "mixtral-8x7b", 32),
        (MEGATRON, "deepseek-v3", 512),
        (TORCHTITAN, "llama-3-70b", 64),
        (TORCHTITAN, "llama-3-405b", 512),
        (TORCHTITAN, "qwen3-30b-a3b", 32),
        (DEEPSPEED, "llama-3-8b", 16),
        (DEEPSPEED, "llama-3-70b", 64),
    ],
    ids=lambda value: getattr(value, "name", value),
)
def test_files_of_frameworks_come_back(framework: Framework, preset: str, devices: int, tmp_path: Path) -> None:
    at = job(
        find_preset(preset).shape,
        framework=framework,
        cluster=find_cluster("DGX H100"),
        num_devices=devices,
        sequence_length=4096,
        batch_size=2 * devices,
    )
    best, text = first_written(at, search(at).ranked, framework.name)
    back = read(text, at.shape.num_layers)
    assert back.configuration == best.configuration
    assert back.batch_size == at.batch_size
    if framework is DEEPSPEED:
        return
    assert back.sequence_length == 4096
    path = tmp_path / ("job.toml" if framework is TORCHTITAN else "arguments.txt")
    path.write_text(text, encoding="utf-8")
    said = read_job_file(str(path))
    assert said.model is not None
    assert (said.model.num_layers, said.model.num_experts) == (at.shape.num_layers, at.shape.num_experts)
    assert said.training.tokens_per_step == at.tokens_per_step
    assert said.training.recompute in (None, str(best.configuration.policy))


def test_pipelines_and_layers_come_back() -> None:
    at = job(find_preset("llama-3-70b").shape, num_devices=64)
    common = {"tp": 2, "pp": 4, "dp": 8, "microbatch_size": 2, "num_microbatches": 8}
    interleaved = Configuration(**common, zero=2, schedule=ScheduleName("Interleaved1F1B"), num_chunks=2)
    back = read(WRITERS["torchtitan"](at, Setting.of(replace_batch(at, 128), interleaved)), 80)
    assert back.configuration == interleaved
    some = replace(interleaved, zero=1, num_recomputed_layers=6)
    back = read(WRITERS["megatron"](at, Setting.of(replace_batch(at, 128), some)))
    assert back.configuration == some
    plain = replace(interleaved, zero=1, schedule=ScheduleName("1F1B"), num_chunks=1, policy=Policy.FULL)
    for name in ("megatron", "deepspeed"):
        assert read(WRITERS[name](at, Setting.of(replace_batch(at, 128), plain))).configuration == plain


def replace_batch(at: PlanJob, batch_size: int) -> PlanJob:
    return job(at.shape, num_devices=at.num_devices, batch_size=batch_size)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("torchtitan", {"zero": 1}),
        ("torchtitan", {"zero": 3, "num_recomputed_layers": 2}),
        ("megatron", {"zero": 3}),
        ("megatron", {"policy": Policy.SELECTIVE}),
        ("megatron", {"pp": 2, "dp": 4, "schedule": ScheduleName("ZBVZeroBubble"), "num_chunks": 2}),
        ("deepspeed", {"cp": 2, "dp": 4}),
        ("deepspeed", {"pp": 2, "dp": 4, "zero": 2, "schedule": ScheduleName("1F1B")}),
    ],
)
def test_what_a_framework_cannot_say(name: str, change: dict[str, object]) -> None:
    at = job(find_preset("llama-3-8b").shape)
    chosen = replace(Configuration(dp=8, num_microbatches=2), **change)
    with pytest.raises(DomainError):
        WRITERS[name](at, Setting.of(at, chosen))


def test_unreadable_settings() -> None:
    for text in ("what", "{", "[model]\nname='llama3'"):
        with pytest.raises(InputError):
            read(text)
    with pytest.raises(UsageError):
        find_framework("abacus")


@pytest.mark.parametrize(
    "changes", [{"num_devices": 0}, {"batch_size": 0}, {"load_ratio": 0.5}, {"shape": replace(DENSE, num_layers=0)}]
)
def test_jobs_that_cannot_be(changes: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        job(**changes)


def test_published_runs_are_feasible_and_near() -> None:
    """`docs/planning.md` shows all of them; a prediction has no jitter and no host, so it lies above most."""
    for run in published_runs():
        found = compare_published(run)
        assert run.configuration.sharding.stage_ranks * run.configuration.pp == run.job.num_devices
        expected = (0.45, 0.65) if run.name == "DeepSeek-V3" else (0.8, 1.05)
        assert expected[0] < run.mfu / found.predicted_mfu < expected[1], run.name
        assert found.fits == (not run.name.startswith("Llama 3")), run.name


def test_pipelines_leave_a_node_better_than_tensor_slices() -> None:
    """The playbook: PP 8 to 16 across nodes costs 14% of throughput, TP 8 to 16 costs 43%."""
    shape, cluster = find_preset("llama-2-7b").shape, find_cluster("DGX H100")

    def per_device(tp: int, pp: int) -> float:
        at = job(shape, cluster=cluster, num_devices=tp * pp, sequence_length=4096, batch_size=256)
        schedule = ScheduleName("1F1B") if pp > 1 else ScheduleName("GradAccumulation")
        chosen = Configuration(tp=tp, pp=pp, schedule=schedule, num_microbatches=256)
        return 1 / (price(at, chosen)[0] * at.num_devices)

    tensor = per_device(16, 1) / per_device(8, 1) - 1
    pipelined = per_device(1, 16) / per_device(1, 8) - 1
    assert tensor == pytest.approx(-0.43, abs=0.05)
    assert pipelined == pytest.approx(-0.14, abs=0.03)


def test_plan_job_on_the_command_line(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    written = {name: tmp_path / name for name in ("torchtitan", "megatron", "deepspeed", "json")}
    common = ["plan", "job", "--model", "llama-3-8b", "--gpus", "16", "--hardware", "dgx h100", "--seq", "4096"]
    options = [word for name, path in written.items() for word in (f"--{name}", str(path))]
    assert main([*common, "--batch", "64", *options]) == 0
    said = capfd.readouterr().out
    for words in (
        "1. fit:",
        "2. batch:",
        "3. throughput:",
        "rules of thumb",
        "rejected:",
        "configurations priced",
        "total",
    ):
        assert words in said
    for name, path in written.items():
        if name != "json":
            assert read(path.read_text(), 32).batch_size == 64
    plain = json.loads(written["json"].read_text())
    assert plain["num_feasible"] > 0
    assert plain["ranked"][0]["step_ms"] <= plain["ranked"][1]["step_ms"]
    assert all(math.isfinite(each["headroom_bytes"]) for each in plain["ranked"])
    assert main([*common, "--batch", "64", "--json", "-"]) == 0
    assert json.loads(capfd.readouterr().out)["schema_version"] == 1


@pytest.mark.parametrize(
    "words", [["--hardware", "abacus"], ["--model", "nothing"], ["--recipe", "fp3"], ["--fixed-gib", "nan"]]
)
def test_wrong_use_of_plan_job(words: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    common = [
        "plan",
        "job",
        "--model",
        "gpt2",
        "--gpus",
        "8",
        "--hardware",
        "dgx h100",
        "--seq",
        "1024",
        "--batch",
        "8",
    ]
    assert main([*common, *words]) == 2
    assert capfd.readouterr().err.startswith("traceanalyzer: ")


def test_stored_scores_take_memory_and_time() -> None:
    chosen = Configuration(dp=8, zero=1, num_microbatches=2)
    stored = job(kernels=Kernels(fused_attention=False))
    assert price(stored, chosen)[0] > price(job(), chosen)[0]
    assert price(stored, chosen)[1] > price(job(), chosen)[1]


def test_predict_prices_the_whole_job(capfd: pytest.CaptureFixture[str]) -> None:
    common = ["predict", "-s", "1F1B,Interleaved1F1B,ZBV", "-p", "4", "-m", "16", "--model", "llama-3-8b"]
    job_options = ["--hardware", "dgx h100", "--tp", "2", "--dp", "4", "--sequence", "8192"]
    assert main([*common, *job_options]) == 0
    said = capfd.readouterr().out
    assert "32 devices of DGX H100, 64 x 8192 tokens a step" in said
    assert main([*common, *job_options, "--json", "-"]) == 0
    first, second, _ = json.loads(capfd.readouterr().out)["job"]
    assert first["step_ms"] > second["step_ms"]
    assert first["mfu"] * first["step_ms"] == pytest.approx(second["mfu"] * second["step_ms"])
    assert first["fits"]
    assert sum(first["parts_ms"].values()) == pytest.approx(first["step_ms"])
    assert main(["predict", "-s", "1F1B", "-p", "4", "-m", "16", "--hardware", "dgx h100"]) == 2
    assert main([*common, "--hardware", "dgx h100", "--tp", "3"]) == 2
