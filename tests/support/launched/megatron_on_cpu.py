"""Megatron-Core's GPT in a pipeline of two ranks with its own 1F1B schedule, recorded on CPU: `torchrun megatron_on_cpu.py FOLDER`.

The package holds no training loop, so this is one in the form of `megatron.training`: functions of a module that call each
other by name. Megatron-Core knows no CPU. What stands in for a device is the least that it asks of one: its tensors are on the
CPU, and its generators of random numbers, which nothing here draws from, are none.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.distributed as dist

NUM_STEPS, MICROBATCHES, SEQUENCES, LENGTH, VOCABULARY = 6, 4, 2, 16, 64


def on_cpu(make: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    """`make` with tensors of the CPU where it is asked for those of a device."""

    def made(*args: Any, **options: Any) -> torch.Tensor:
        return make(*args, **{**options, "device": "cpu"} if "device" in options else options)

    return made


def stand_in_device() -> None:
    """Let Megatron-Core take the CPU for its device."""
    for name in ("zeros", "ones", "empty", "tensor", "arange"):
        setattr(torch, name, on_cpu(getattr(torch, name)))
    torch.cuda.current_device = lambda: "cpu"
    torch.cuda.synchronize = lambda *_: None


stand_in_device()
from megatron.core import parallel_state, tensor_parallel  # noqa: E402
from megatron.core.models.gpt import GPTModel  # noqa: E402
from megatron.core.models.gpt.gpt_layer_specs import get_gpt_layer_local_spec  # noqa: E402
from megatron.core.pipeline_parallel import get_forward_backward_func  # noqa: E402
from megatron.core.transformer import TransformerConfig  # noqa: E402

from instrumented_runs.frameworks.loops import record_loop  # noqa: E402
from instrumented_runs.recorder.capture import Window  # noqa: E402


def pretrained() -> GPTModel:
    """Half of a small model."""
    config = TransformerConfig(
        num_layers=4, hidden_size=32, num_attention_heads=4, use_cpu_initialization=True, attention_dropout=0.0,
        hidden_dropout=0.0, pipeline_model_parallel_size=2, pipeline_dtype=torch.float32, bias_dropout_fusion=False,
        masked_softmax_fusion=False, gradient_accumulation_fusion=False,
    )  # fmt: skip
    return GPTModel(
        config=config, transformer_layer_spec=get_gpt_layer_local_spec(), vocab_size=VOCABULARY,
        max_sequence_length=LENGTH, pre_process=parallel_state.is_pipeline_first_stage(),
        post_process=parallel_state.is_pipeline_last_stage(),
    )  # fmt: skip


def batches() -> Iterator[torch.Tensor]:
    chance = torch.Generator().manual_seed(5)
    while True:
        yield torch.randint(VOCABULARY, (SEQUENCES, LENGTH), generator=chance)


def forward_step(data: Iterator[torch.Tensor], model: GPTModel) -> tuple[torch.Tensor, Callable[..., Any]]:
    tokens = next(data)
    mask = torch.ones(1, 1, LENGTH, LENGTH).tril() < 0.5
    places = torch.arange(LENGTH).expand(SEQUENCES, LENGTH)
    return model(tokens, places, mask, labels=tokens), lambda losses: (losses.mean(), {"loss": losses.mean().item()})


def train_step(run: Callable[..., Any], data: Iterator[torch.Tensor], model: GPTModel, update: Any) -> list[Any]:
    update.zero_grad()
    found = run(
        forward_step_func=forward_step, data_iterator=data, model=model, num_microbatches=MICROBATCHES,
        seq_length=LENGTH, micro_batch_size=SEQUENCES, forward_only=False,
    )  # fmt: skip
    update.step()
    return found


def train(model: GPTModel) -> None:
    data, update = batches(), torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(NUM_STEPS):
        train_step(get_forward_backward_func(), data, model, update)


def main(folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    parallel_state.initialize_model_parallel(pipeline_model_parallel_size=2)
    tensor_parallel.get_cuda_rng_tracker().fork = lambda *_: contextlib.nullcontext()
    model = pretrained()
    record_loop(sys.modules[__name__], folder, window=Window(wait=1, warmup=1, active=3))
    train(model)
    dist.destroy_process_group()


if __name__ == "__main__":
    main(sys.argv[1])
