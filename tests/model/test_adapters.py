"""Frozen weights beside trained adapters: FLOPs without weight gradients, against what torch computes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from traceanalyzer.errors import InputError, UsageError
from traceanalyzer.model import Adapter, ModelShape
from traceanalyzer.model_configs import read_model_config
from traceanalyzer.options.declaration import declaration
from traceanalyzer.theory.model.flops import flops_per_token
from traceanalyzer.theory.model.parameters import parameters

BASE = {
    "model_type": "llama", "hidden_size": 96, "num_hidden_layers": 5, "num_attention_heads": 6, "num_key_value_heads": 2,
    "intermediate_size": 250, "vocab_size": 700,
}  # fmt: skip
LORA = {"peft_type": "LORA", "r": 4, "target_modules": ["q_proj", "model.layers.0.mlp.down_proj", "o_proj"]}


def test_a_frozen_matrix_costs_two_thirds() -> None:
    full, frozen = read_model_config(BASE), read_model_config(BASE | LORA)
    adapter = 5 * 4 * ((96 + 96) + (96 + 250) + (96 + 96))
    assert parameters(frozen).total - parameters(full).total == parameters(frozen).adapter == adapter
    whole, spared = (flops_per_token(shape, 128) for shape in (full, frozen))
    matrices = parameters(full).matmul_active
    assert spared.total == whole.total - 2 * matrices + 6 * adapter
    assert whole.total == 6 * matrices + 3 * whole.core_attention


def test_a_trained_output_matrix_costs_all() -> None:
    saved = read_model_config(BASE | LORA | {"modules_to_save": ["lm_head"]})
    frozen = read_model_config(BASE | LORA)
    assert flops_per_token(saved, 64).total - flops_per_token(frozen, 64).total == 2 * 96 * 700


def test_torch_computes_as_much() -> None:
    torch = pytest.importorskip("torch")
    counting = pytest.importorskip("torch.utils.flop_counter")
    width, inner, rank, tokens = 24, 60, 3, 10
    up, down = torch.nn.Linear(width, inner, bias=False), torch.nn.Linear(inner, width, bias=False)
    into, out = torch.nn.Linear(width, rank, bias=False), torch.nn.Linear(rank, inner, bias=False)
    for frozen in (up, down):
        frozen.weight.requires_grad = False
    given = torch.randn(tokens, width, requires_grad=True)
    with counting.FlopCounterMode(display=False) as counter:
        down(torch.relu(up(given) + out(into(given)))).sum().backward()
    frozen_parameters, trained = 2 * width * inner, rank * (width + inner)
    assert counter.get_total_flops() == tokens * (4 * frozen_parameters + 6 * trained)


@pytest.mark.parametrize(
    ("adapter", "message"),
    [
        ({"peft_type": "IA3"}, "type IA3"),
        ({"target_modules": ["conv1"]}, "target_modules names conv1"),
        ({"rank_pattern": {"q_proj": 8}}, "rank_pattern"),
        ({"layers_to_transform": [1]}, "layers_to_transform"),
        ({"r": None}, "'r' or 'rank' is missing"),
    ],
)
def test_adapters_that_are_not_counted(adapter: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_model_config(BASE | LORA | adapter)


def test_adapters_of_experts_are_refused_and_of_attention_counted() -> None:
    mixtral = BASE | {"model_type": "mixtral", "num_local_experts": 4, "num_experts_per_tok": 2}
    with pytest.raises(InputError, match="adapters of experts"):
        read_model_config(mixtral | LORA)
    shape = read_model_config(mixtral | LORA | {"target_modules": ["q_proj"]})
    assert shape.adapter == Adapter(rank=4, targets=("query",))


def test_an_adapter_alone_asks_for_its_base(tmp_path: Path) -> None:
    adapter, base = tmp_path / "adapter_config.json", tmp_path / "config.json"
    adapter.write_text(json.dumps(LORA | {"base_model_name_or_path": "some/base"}))
    base.write_text(json.dumps(BASE))
    with pytest.raises(InputError, match=r"an adapter, not the model it adapts \(some/base\)") as error:
        declaration(job_file=str(adapter))
    assert "--adapter" in str(error.value.hint)
    assert declaration(job_file=str(base), adapter=str(adapter)).model == read_model_config(BASE | LORA)
    with pytest.raises(UsageError, match="--adapter needs the model"):
        declaration(adapter=str(adapter))


def test_an_adapter_field_in_any_job_file() -> None:
    shape = read_model_config(BASE | {"adapter": {"r": 4, "target_modules": "all-linear"}})
    assert shape.adapter is not None
    assert len(shape.adapter.targets) == 7
    megatron = {
        "num_layers": 5, "hidden_size": 96, "num_attention_heads": 6, "vocab_size": 700,
        "adapter": {"rank": 4, "target_modules": ["linear_qkv", "linear_fc1"]},
    }  # fmt: skip
    read: ModelShape = read_model_config(megatron)
    assert parameters(read).adapter == 5 * 4 * ((96 + 3 * 96) + (96 + 384))
