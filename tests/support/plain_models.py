"""Plain torch transformers of any `ModelShape`, without norms, to count FLOPs on; not imported where torch is missing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch
from torch.utils import checkpoint

from traceanalyzer.model import LatentAttention, ModelShape
from traceanalyzer.theory.model.flops import Recompute

GPT = ModelShape(
    num_layers=3, hidden_size=32, num_heads=4, num_kv_heads=4, head_size=8, ffn_size=128, vocab_size=96,
    tied_embeddings=True,
)  # fmt: skip
LLAMA = replace(GPT, num_kv_heads=2, head_size=16, ffn_size=88, gated_mlp=True, tied_embeddings=False)
MOE = replace(
    LLAMA, num_experts=6, experts_per_token=2, expert_ffn_size=40, shared_expert_ffn_size=24, num_dense_layers=1
)
LATENT = LatentAttention(query_rank=12, key_value_rank=20, plain_head_size=8, rotary_head_size=4, value_head_size=10)
SHAPES = {
    "gpt": GPT,
    "llama": LLAMA,
    "moe": MOE,
    "alternating_moe": replace(MOE, moe_layers=(1,)),
    "mla": replace(MOE, latent_attention=LATENT),
    "mla_without_query_rank": replace(LLAMA, latent_attention=replace(LATENT, query_rank=0)),
}


class Attention(torch.nn.Module):
    def __init__(self, shape: ModelShape, recompute: Recompute) -> None:
        super().__init__()
        self.attend = core_attention(recompute)
        hidden, self.heads, self.groups, self.size = (
            shape.hidden_size, shape.num_heads, shape.num_kv_heads, shape.head_size,
        )  # fmt: skip
        self.query = linear(hidden, self.heads * self.size)
        self.key_value = linear(hidden, 2 * self.groups * self.size)
        self.output = linear(self.heads * self.size, hidden)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, length, _ = x.shape
        query = self.query(x).view(batch, length, self.heads, self.size)
        key, value = self.key_value(x).view(batch, length, 2, self.groups, self.size).unbind(2)
        times = self.heads // self.groups
        mixed = self.attend(query, key.repeat_interleave(times, 2), value.repeat_interleave(times, 2))
        return self.output(mixed)


class Latent(torch.nn.Module):
    """DeepSeek's attention as its paper draws it; rotation, which is no matrix multiplication, is left out."""

    def __init__(self, shape: ModelShape, recompute: Recompute) -> None:
        super().__init__()
        self.attend = core_attention(recompute)
        sizes, hidden, heads = shape.latent_attention, shape.hidden_size, shape.num_heads
        assert sizes is not None
        self.sizes, self.heads = sizes, heads
        width = heads * sizes.head_size
        rank = sizes.query_rank
        self.query = torch.nn.Sequential(linear(hidden, rank), linear(rank, width)) if rank else linear(hidden, width)
        self.down = linear(hidden, sizes.key_value_rank + sizes.rotary_head_size)
        self.up = linear(sizes.key_value_rank, heads * (sizes.plain_head_size + sizes.value_head_size))
        self.output = linear(heads * sizes.value_head_size, hidden)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, length, _ = x.shape
        sizes = self.sizes
        query = self.query(x).view(batch, length, self.heads, -1)
        compressed, rotary = self.down(x).split([sizes.key_value_rank, sizes.rotary_head_size], -1)
        plain, value = (
            self.up(compressed).view(batch, length, self.heads, -1)
            .split([sizes.plain_head_size, sizes.value_head_size], -1)
        )  # fmt: skip
        key = torch.cat([plain, rotary.unsqueeze(2).expand(-1, -1, self.heads, -1)], -1)
        return self.output(self.attend(query, key, value))


class Mlp(torch.nn.Module):
    def __init__(self, hidden: int, size: int, *, gated: bool) -> None:
        super().__init__()
        self.up, self.down = linear(hidden, size), linear(size, hidden)
        self.gate = linear(hidden, size) if gated else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        inner = torch.nn.functional.gelu(self.up(x))
        return self.down(inner * self.gate(x) if self.gate is not None else inner)


class Experts(torch.nn.Module):
    """Every expert gets the same number of tokens: on the meta device there is nothing to route by."""

    def __init__(self, shape: ModelShape) -> None:
        super().__init__()
        hidden, gated = shape.hidden_size, shape.gated_mlp
        self.top_k = shape.experts_per_token
        self.router = linear(hidden, shape.num_experts)
        self.experts = torch.nn.ModuleList(
            Mlp(hidden, shape.expert_ffn_size, gated=gated) for _ in range(shape.num_experts)
        )
        self.shared = Mlp(hidden, shape.shared_expert_ffn_size, gated=gated)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, length, hidden = x.shape
        copies = x.reshape(-1, hidden).repeat(self.top_k, 1).chunk(len(self.experts))
        routed = torch.cat([expert(tokens) for expert, tokens in zip(self.experts, copies, strict=True)])
        routed = routed.view(self.top_k, batch, length, hidden).sum(0)
        return self.shared(x) + routed * self.router(x).mean(-1, keepdim=True)


class Model(torch.nn.Module):
    def __init__(self, shape: ModelShape, recompute: Recompute = Recompute.NONE) -> None:
        super().__init__()
        hidden = shape.hidden_size
        self.table = torch.nn.Embedding(shape.vocab_size, hidden)
        attention = Attention if shape.latent_attention is None else Latent
        self.attentions = torch.nn.ModuleList(attention(shape, recompute) for _ in range(shape.num_layers))
        self.mlps = torch.nn.ModuleList(
            Experts(shape) if shape.is_moe_layer(layer) else Mlp(hidden, shape.ffn_size, gated=shape.gated_mlp)
            for layer in range(shape.num_layers)
        )
        self.logits = linear(hidden, shape.vocab_size)
        if shape.tied_embeddings:
            self.logits.weight = self.table.weight

    def layer(self, index: int, x: torch.Tensor) -> torch.Tensor:
        x = x + self.attentions[index](x)
        return x + self.mlps[index](x)

    def forward(self, tokens: torch.Tensor, recompute: Recompute = Recompute.NONE) -> torch.Tensor:
        x = self.table(tokens)
        for index in range(len(self.mlps)):
            x = again(self.layer, index, x) if recompute is Recompute.FULL else self.layer(index, x)
        return self.logits(x).sum()


def linear(inputs: int, outputs: int) -> torch.nn.Linear:
    return torch.nn.Linear(inputs, outputs, bias=False)


def attend(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """Causal attention of tensors of batch, length, heads, size; heads joined again."""
    heads_first = (tensor.transpose(1, 2) for tensor in (query, key, value))
    mixed = torch.nn.functional.scaled_dot_product_attention(*heads_first, is_causal=True)
    return mixed.transpose(1, 2).flatten(2)


def again(function: Callable[..., torch.Tensor], *inputs: object) -> torch.Tensor:
    return checkpoint.checkpoint(function, *inputs, use_reentrant=False)


def core_attention(recompute: Recompute) -> Callable[..., torch.Tensor]:
    return partial(again, attend) if recompute is Recompute.SELECTIVE else attend
