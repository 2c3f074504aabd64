"""Memory of a rank: states by ZeRO stage, activations by recompute policy and schedule, against published figures."""

from __future__ import annotations

import pytest

from traceanalyzer.errors import DomainError, UsageError
from traceanalyzer.model import LatentAttention, ModelShape
from traceanalyzer.model_configs import find_preset
from traceanalyzer.schedule import ScheduleName
from traceanalyzer.theory.memory.activations import Kernels, Policy, head_bytes, layer_bytes, layer_parts
from traceanalyzer.theory.memory.rank import Allowance, Training, rank_memory, stage_memory
from traceanalyzer.theory.memory.recipes import find_recipe, recipes
from traceanalyzer.theory.memory.sharding import Sharding, check
from traceanalyzer.theory.memory.stages import Holding, distinct_ranks, held_microbatches, holdings, layer_split
from traceanalyzer.theory.memory.states import LocalParameters, local_parameters, state_bytes
from traceanalyzer.theory.model.activation_memory import stage_activation_bytes
from traceanalyzer.theory.model.parameters import parameters
from traceanalyzer.theory.schedules.orders import chunks_per_rank, order, placement
from traceanalyzer.theory.simulator.op_times import OpTimes
from traceanalyzer.theory.simulator.simulation import simulate

GIB = 2**30
AS_PUBLISHED = Kernels(fused_attention=False, dropout=True)
NOTHING_MORE = Allowance(fixed_bytes=0, fragmentation=0)


def gpt(num_layers: int, hidden: int, heads: int) -> ModelShape:
    return ModelShape(
        num_layers=num_layers,
        hidden_size=hidden,
        num_heads=heads,
        num_kv_heads=heads,
        head_size=hidden // heads,
        ffn_size=4 * hidden,
        vocab_size=51200,
    )


KORTHIKANTI = {
    "22B": (gpt(48, 6144, 64), 1, 1, 4, 59.25, 9.5625),
    "175B": (gpt(96, 12288, 96), 8, 3, 1, 66.84375, 12.3515625),
    "530B": (gpt(105, 20480, 128), 35, 3, 1, 114.0234375, 23.076171875),
    "1T": (gpt(128, 25600, 160), 64, 1, 1, 131.25, 26.5625),
}
"""arXiv 2205.05198, figure 1 and table 3: shape, PP, chunks, microbatch size, GiB of the first stage."""


@pytest.mark.parametrize("name", KORTHIKANTI)
@pytest.mark.parametrize(
    ("policy", "sequence_parallel", "column"), [(Policy.NONE, False, 4), (Policy.ATTENTION, True, 5)]
)
def test_first_stages_of_korthikanti(name: str, policy: Policy, sequence_parallel: bool, column: int) -> None:  # noqa: FBT001
    shape, pp, chunks, size = KORTHIKANTI[name][:4]
    schedules = (ScheduleName("GradAccumulation"), ScheduleName("1F1B"), ScheduleName("Interleaved1F1B"))
    training = Training(
        shape=shape,
        recipe=find_recipe("bf16"),
        sequence_length=2048,
        microbatch_size=size,
        num_microbatches=4 * pp,
        schedule=schedules[(pp > 1) + (chunks > 1)],
        num_chunks=chunks,
        policy=policy,
        kernels=AS_PUBLISHED,
    )
    memory = rank_memory(training, Sharding(tp=8, pp=pp, sequence_parallel=sequence_parallel))
    assert memory.activations / GIB == pytest.approx(KORTHIKANTI[name][column], rel=1e-3)
    if policy is Policy.NONE:
        assert memory.total > 80 * GIB
    else:
        assert memory.total < 80 * GIB


@pytest.mark.parametrize(
    ("policy", "sharding", "expected"),
    [
        (Policy.NONE, Sharding(), lambda s: 34 + 5 * 12 * s / 96),
        (Policy.NONE, Sharding(tp=4, sequence_parallel=False), lambda s: 10 + 24 / 4 + 5 * 12 * s / (4 * 96)),
        (Policy.NONE, Sharding(tp=4), lambda s: (34 + 5 * 12 * s / 96) / 4),
        (Policy.ATTENTION, Sharding(tp=4, sequence_parallel=False), lambda _: 10 + 24 / 4),
        (Policy.ATTENTION, Sharding(tp=4), lambda _: 34 / 4),
        (Policy.FULL, Sharding(tp=4, sequence_parallel=False), lambda _: 2),
        (Policy.FULL, Sharding(tp=4), lambda _: 2 / 4),
        (Policy.ATTENTION, Sharding(tp=2, cp=2), lambda _: 34 / 4),
    ],
)
def test_formulas_of_korthikanti(policy: Policy, sharding: Sharding, expected: object) -> None:
    shape, batch, length = gpt(3, 96, 12), 5, 640
    parts = layer_parts(shape, find_recipe("bf16"), AS_PUBLISHED, moe=False)
    found = layer_bytes(parts, policy, batch * length, length, sharding)
    assert found == pytest.approx(batch * length * 96 * expected(length))  # type: ignore[operator]


@pytest.mark.parametrize("word", [2, 4])
def test_fused_layers_keep_what_autograd_keeps(word: int) -> None:
    shape = gpt(6, 48, 3)
    recipe = find_recipe("bf16" if word == 2 else "fp32")
    kept = layer_bytes(layer_parts(shape, recipe, Kernels(), moe=False), Policy.NONE, 70, 14, Sharding())
    assert 2 * kept + 70 * 8 == stage_activation_bytes(shape, 3, 70, word)[0]


def test_zero_of_the_paper() -> None:
    """arXiv 1910.02054, figure 1: 7.5 billion parameters on 64 devices."""
    whole = LocalParameters(matrices=7.5e9, others=0, experts=0, layer=0)
    found = [
        state_bytes(whole, find_recipe("bf16-grad16"), Sharding(dp=64, zero=stage)).total / 1e9 for stage in range(4)
    ]
    assert [round(each, 1) for each in found] == [120.0, 31.4, 16.6, 1.9]


@pytest.mark.parametrize(
    "preset", ["llama-3-8b", "mixtral-8x7b", "deepseek-v3", "qwen3-30b-a3b", "gpt-oss-20b", "gemma-2-9b"]
)
def test_undivided_parameters_are_the_models(preset: str) -> None:
    shape = find_preset(preset).shape
    whole = Holding(
        num_dense=shape.num_layers - shape.num_moe_layers, num_moe=shape.num_moe_layers, embedding=True, head=True
    )
    found = local_parameters(shape, 1, 1, 1, whole)
    assert found.total == pytest.approx(parameters(shape, with_mtp=True).total)


def test_divided_parameters_add_up_but_for_what_is_repeated() -> None:
    shape = find_preset("mixtral-8x7b").shape
    holding = Holding(num_dense=0, num_moe=32, embedding=True, head=True)
    found = local_parameters(shape, 4, 8, 1, holding)
    repeated = 3 * (parameters(shape).router + parameters(shape).norms)
    shared = parameters(shape).total - parameters(shape).experts
    assert 4 * (found.matrices + found.others) == pytest.approx(shared + repeated)
    assert 8 * found.experts == parameters(shape).experts


def test_keys_and_values_are_repeated_beyond_their_heads() -> None:
    shape = find_preset("llama-3-8b").shape
    holding = Holding(num_dense=1, num_moe=0, embedding=False, head=False)
    eight, thirty_two = (local_parameters(shape, tp, 1, 1, holding).matrices for tp in (8, 32))
    pair = 2 * shape.hidden_size * shape.head_size
    assert thirty_two - pair == pytest.approx((eight - pair) / 4)


def test_zero_divides_experts_by_their_own_replicas() -> None:
    found = LocalParameters(matrices=0, others=0, experts=1000, layer=0)
    states = state_bytes(found, find_recipe("bf16"), Sharding(dp=16, ep=8, zero=1))
    assert (states.weights, states.gradients, states.optimizer) == (2000, 4000, 12000 / 2)


@pytest.mark.parametrize(
    ("name", "per_parameter"),
    [("bf16", 18), ("bf16-grad16", 16), ("fsdp", 16), ("fp8", 20), ("adam8bit", 12), ("muon", 14)],
)
def test_bytes_per_parameter(name: str, per_parameter: float) -> None:
    found = LocalParameters(matrices=100, others=0, experts=0, layer=0)
    assert state_bytes(found, find_recipe(name), Sharding()).total == 100 * per_parameter


def test_muon_keeps_adam_for_what_is_no_matrix() -> None:
    found = LocalParameters(matrices=0, others=100, experts=0, layer=0)
    assert state_bytes(found, find_recipe("muon"), Sharding()).total == 1800


def test_unknown_recipe() -> None:
    with pytest.raises(UsageError, match="no training recipe"):
        find_recipe("fp3")
    assert all(recipe.source for recipe in recipes().values())


@pytest.mark.parametrize("name", list(ScheduleName))
def test_microbatches_held_are_the_simulated_ones(name: ScheduleName) -> None:
    points = 0
    for p in (1, 2, 3, 4, 6):
        for m in (1, 2, 4, 8, 12, 24):
            for v in (2, 3) if chunks_per_rank(name) is None else (chunks_per_rank(name) or 1,):
                try:
                    orders = order(name, p, m, v)
                except DomainError:
                    continue
                times = OpTimes(forward_ns=10, input_gradient_ns=10, weight_gradient_ns=10)
                simulated = simulate(orders, placement(name, p, v), times).peak_in_flight
                found = [held_microbatches(name, p, m, v, rank) for rank in range(p)]
                points += 1
                if name == ScheduleName("ZBVZeroBubble") and m < 2 * p - 1:
                    assert all(f >= held / v for f, held in zip(found, simulated, strict=True)), (p, m, v)
                else:
                    assert found == pytest.approx([held / v for held in simulated]), (p, m, v)
    assert points


def test_layers_are_dealt_out_as_llama_does() -> None:
    split = layer_split(126, 16)
    assert (split[0], split[-1], set(split[1:-1])) == (7, 7, {8})
    assert layer_split(61, 16) == (3, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 3, 3)
    with pytest.raises(DomainError):
        layer_split(4, 5)


def test_what_ranks_hold() -> None:
    shape = find_preset("deepseek-v2-lite").shape  # 27 layers, the first dense
    first, *_, last = holdings(shape, ScheduleName("1F1B"), 9, 1)
    assert (first.num_dense, first.num_moe, first.embedding, first.head) == (1, 2, True, False)
    assert (last.num_dense, last.num_moe, last.embedding, last.head) == (0, 3, False, True)
    folded = holdings(shape, ScheduleName("ZBVZeroBubble"), 9, 2)
    assert folded[0].embedding
    assert folded[0].head
    assert sum(each.num_layers for each in folded) == 27
    assert distinct_ranks(shape, ScheduleName("1F1B"), 9, 1) == (0, 1, 8)


def test_the_fullest_rank_is_among_the_distinct_ones() -> None:
    shape = find_preset("deepseek-v2-lite").shape
    training = Training(
        shape=shape,
        recipe=find_recipe("bf16"),
        sequence_length=4096,
        microbatch_size=1,
        num_microbatches=18,
        schedule=ScheduleName("1F1B"),
    )
    sharding = Sharding(pp=9, dp=8, ep=8, zero=1)
    every = [rank_memory(training, sharding, rank).total for rank in range(9)]
    assert max(every) == max(memory.total for memory in stage_memory(training, sharding).values())


def test_recomputed_layers_free_what_they_kept() -> None:
    shape = gpt(8, 64, 4)
    sharding = Sharding(pp=2)

    def held(policy: Policy, num_layers: int | None = None) -> float:
        training = Training(
            shape=shape,
            recipe=find_recipe("bf16"),
            sequence_length=32,
            microbatch_size=1,
            num_microbatches=4,
            schedule=ScheduleName("1F1B"),
            policy=policy,
            num_recomputed_layers=num_layers,
        )
        return rank_memory(training, sharding, 0, NOTHING_MORE).activations

    none, selective, full = (held(policy) for policy in (Policy.NONE, Policy.SELECTIVE, Policy.FULL))
    assert none > selective > full
    assert held(Policy.NONE, 4) == full
    assert held(Policy.NONE, 1) == pytest.approx(none - (none - full) / 4)


def test_experts_see_the_rows_of_all_that_share_their_slices() -> None:
    shape = find_preset("mixtral-8x7b").shape
    recipe = find_recipe("bf16")
    parts = {part.name: part for part in layer_parts(shape, recipe, Kernels(), moe=True)}
    rows = (parts["rows of the experts"],)
    whole = layer_bytes(rows, Policy.NONE, 4096, 4096, Sharding(tp=8, dp=8))
    sliced = layer_bytes(rows, Policy.NONE, 4096, 4096, Sharding(tp=8, dp=8, etp=8))
    assert sliced == 8 * whole


def test_latent_attention_keeps_its_latents_whole() -> None:
    shape = ModelShape(
        num_layers=1,
        hidden_size=64,
        num_heads=4,
        num_kv_heads=4,
        head_size=12,
        ffn_size=128,
        vocab_size=100,
        latent_attention=LatentAttention(
            query_rank=16, key_value_rank=8, plain_head_size=8, rotary_head_size=4, value_head_size=8
        ),
    )
    parts = {part.name: part for part in layer_parts(shape, find_recipe("bf16"), Kernels(), moe=False)}
    assert parts["latents"].elements == 16 + 8 + 4
    assert parts["queries, keys, values"].elements == 4 * (12 + 12 + 8)


def test_logits_of_the_last_stage() -> None:
    kept, gradient = head_bytes(gpt(2, 64, 4), find_recipe("bf16"), 10, Sharding(tp=2))
    assert kept == 10 * (2 * 64 * 2 / 2 + 4 * 51200 / 2)
    assert gradient == 10 * 2 * 51200 / 2


@pytest.mark.parametrize("degrees", [{"tp": 0}, {"dp": 2, "ep": 4}, {"zero": 4}])
def test_impossible_degrees(degrees: dict[str, int]) -> None:
    with pytest.raises(DomainError):
        Sharding(**degrees)


def test_heads_and_experts_must_divide() -> None:
    with pytest.raises(DomainError, match="heads"):
        check(find_preset("llama-3-8b").shape, Sharding(tp=3))
    with pytest.raises(DomainError, match="experts"):
        check(find_preset("mixtral-8x7b").shape, Sharding(dp=16, ep=16))
    with pytest.raises(DomainError, match="without experts"):
        check(find_preset("llama-3-8b").shape, Sharding(dp=2, ep=2))
    check(find_preset("llama-3-8b").shape, Sharding(tp=32))
