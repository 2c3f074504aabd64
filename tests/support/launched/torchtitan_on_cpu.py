# ruff: noqa: E402 - the stand-in for a device comes before torchtitan
"""torchtitan's own trainer and loop, recorded on CPU: `python torchtitan_on_cpu.py FOLDER`.

torchtitan knows no CPU. What stands in for a device is the least that its loop asks of one: names and empty counters of
memory. Attention is torch's own (flex attention has no backward on CPU), tokens are random, and times out of process groups stay
as they are.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import torch
import torch._utils

NUM_STEPS, TOKENS, SEQUENCES, VOCABULARY = 6, 32, 2, 2048


def stand_in_device() -> None:
    """Let torchtitan take the CPU for its device."""
    for name, found in {
        "current_device": lambda *_: 0,
        "get_device_name": lambda *_: "CPU",
        "get_device_properties": lambda *_: SimpleNamespace(total_memory=1 << 34),
        "memory_stats": lambda *_: {},
        "reset_peak_memory_stats": lambda *_: None,
        "empty_cache": lambda *_: None,
    }.items():
        setattr(torch.cpu, name, found)
    torch._utils._get_available_device_type = lambda: "cpu"


def one_process() -> None:
    """The environment of a job of one rank, on a port that is free."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    os.environ.update(RANK="0", LOCAL_RANK="0", WORLD_SIZE="1", MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.set_num_threads(1)


def attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, **_: object) -> tuple[torch.Tensor, SimpleNamespace]:
    """Causal attention with flex attention's arguments and answer."""
    grouped = q.shape[1] != k.shape[1]
    out = torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=grouped)
    return out, SimpleNamespace(lse=None)


one_process()
stand_in_device()
from torchtitan.components.checkpoint import CheckpointManager
from torchtitan.components.dataloader import BaseDataLoader
from torchtitan.components.tokenizer import BaseTokenizer
from torchtitan.components.validate import Validator
from torchtitan.config import TrainingConfig
from torchtitan.distributed import utils as meshes
from torchtitan.models.common.attention import FlexAttention
from torchtitan.models.llama3 import config_registry

from instrumented_runs.frameworks.loops import record_loop
from instrumented_runs.recorder.capture import Window


class Tokens(BaseDataLoader):
    @dataclass(kw_only=True, slots=True)
    class Config(BaseDataLoader.Config):
        pass

    def __init__(self, config: object, **_: object) -> None:
        self.config = config

    def __iter__(self) -> Iterator[tuple[dict[str, torch.Tensor], torch.Tensor]]:
        chance = torch.Generator().manual_seed(3)
        while True:
            ids = torch.randint(VOCABULARY, (SEQUENCES, TOKENS + 1), generator=chance)
            places = torch.arange(TOKENS).repeat(SEQUENCES, 1)
            yield {"input": ids[:, :-1], "positions": places}, ids[:, 1:]

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        pass


class NoTokenizer(BaseTokenizer):
    @dataclass(kw_only=True, slots=True)
    class Config(BaseTokenizer.Config):
        pass

    def __init__(self, config: object = None, **_: object) -> None:
        super().__init__()
        self.config, self.eos_id = config, 0

    def encode(self, *_: object, **__: object) -> list[int]:
        return []

    def decode(self, *_: object, **__: object) -> str:
        return ""

    def get_vocab_size(self) -> int:
        return VOCABULARY


def settings(folder: str) -> Any:
    """torchtitan's debug model on random tokens."""
    found = config_registry.llama3_debugmodel()
    found.training = TrainingConfig(
        local_batch_size=SEQUENCES, seq_len=TOKENS, steps=NUM_STEPS, disable_cuda_graphs=True, dtype="float32"
    )
    found.dataloader, found.tokenizer = Tokens.Config(), NoTokenizer.Config()
    found.validator, found.checkpoint = Validator.Config(enable=False), CheckpointManager.Config(enable=False)
    found.dump_folder = f"{folder}/dump"
    return found


def main(folder: str) -> None:
    FlexAttention._compiled_flex_attn = staticmethod(attention)
    meshes.set_pg_timeouts = lambda **_: None
    trainer = settings(folder).build()
    record_loop(trainer, f"{folder}/run", window=Window(wait=1, warmup=1, active=3))
    trainer.train()
    trainer.close()


if __name__ == "__main__":
    main(sys.argv[1])
