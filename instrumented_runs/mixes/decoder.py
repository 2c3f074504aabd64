"""A decoder of Llama's form: RMS norms, grouped queries, gated MLPs; `[B, L, hidden]` between its layers."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 - torch's own convention
from torch.utils.checkpoint import checkpoint

from instrumented_runs.jobs.transformer import seed_weights
from instrumented_runs.mixes.ring import Ring, RingAttention
from instrumented_runs.mixes.settings import MixSettings


class Attention(nn.Module):
    """Causal self-attention of the heads that this rank holds."""

    def __init__(self, settings: MixSettings, ring: Ring | None) -> None:
        super().__init__()
        self.head_size = settings.hidden_size // settings.num_heads
        self.recompute = settings.recompute == "selective"
        self.ring = ring
        kv = self.head_size * settings.num_kv_heads
        self.query = nn.Linear(settings.hidden_size, settings.hidden_size, bias=False)
        self.key = nn.Linear(settings.hidden_size, kv, bias=False)
        self.value = nn.Linear(settings.hidden_size, kv, bias=False)
        self.output = nn.Linear(settings.hidden_size, settings.hidden_size, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """`[B, L, hidden]` to the same."""
        q, k, v = (
            part(x).unflatten(-1, (-1, self.head_size)).transpose(1, 2) for part in (self.query, self.key, self.value)
        )
        mixed = checkpoint(self._core, q, k, v, use_reentrant=False) if self.recompute else self._core(q, k, v)
        return self.output(mixed.transpose(1, 2).flatten(2))

    def _core(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        if self.ring is None:
            return F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=q.shape[1] != k.shape[1])
        repeats = q.shape[1] // k.shape[1]
        return RingAttention.apply(q, k.repeat_interleave(repeats, 1), v.repeat_interleave(repeats, 1), self.ring)


class Mlp(nn.Module):
    """A gated MLP."""

    def __init__(self, hidden: int, inner: int) -> None:
        super().__init__()
        self.gate = nn.Linear(hidden, inner, bias=False)
        self.up = nn.Linear(hidden, inner, bias=False)
        self.down = nn.Linear(inner, hidden, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """`[B, L, hidden]` to the same."""
        return self.down(F.silu(self.gate(x)) * self.up(x))


class Layer(nn.Module):
    """A pre-norm layer; `feed` is its MLP with norm, or its experts, residual included."""

    def __init__(self, settings: MixSettings, ring: Ring | None, feed: nn.Module | None) -> None:
        super().__init__()
        self.recompute = settings.recompute == "full"
        self.attention_norm = nn.RMSNorm(settings.hidden_size)
        self.attention = Attention(settings, ring)
        self.feed = feed
        self.mlp_norm = nn.RMSNorm(settings.hidden_size) if feed is None else None
        self.mlp = Mlp(settings.hidden_size, settings.ffn_size) if feed is None else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """`[B, L, hidden]` to the same."""
        return checkpoint(self._run, x, use_reentrant=False) if self.recompute and self.training else self._run(x)

    def _run(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.attention(self.attention_norm(x))
        if self.feed is not None:
            return self.feed(x)
        assert self.mlp is not None  # noqa: S101 - there is one of the two
        assert self.mlp_norm is not None  # noqa: S101
        return x + self.mlp(self.mlp_norm(x))


class Embedding(nn.Module):
    """Ids `[B, L]` of the tokens at `positions` to `[B, L, hidden]`."""

    def __init__(self, settings: MixSettings, positions: torch.Tensor) -> None:
        super().__init__()
        self.tokens = nn.Embedding(settings.vocab_size, settings.hidden_size)
        self.places = nn.Embedding(settings.sequence_length, settings.hidden_size)
        self.positions = positions

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Sum of token and position embedding."""
        return self.tokens(ids) + self.places(self.positions)


class Head(nn.Module):
    """`[B, L, hidden]` to logits."""

    def __init__(self, settings: MixSettings) -> None:
        super().__init__()
        self.norm = nn.RMSNorm(settings.hidden_size)
        self.output = nn.Linear(settings.hidden_size, settings.vocab_size, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits `[B, L, vocab]`."""
        return self.output(self.norm(x))


def stage(
    settings: MixSettings,
    index: int,
    positions: torch.Tensor,
    ring: Ring | None = None,
    feeds: list[nn.Module] | None = None,
) -> nn.Sequential:
    """Pipeline stage `index`; weights depend on their place in the model alone. `feeds`: the experts of its layers."""
    first, last = (at * settings.num_layers // settings.pp for at in (index, index + 1))
    seed = settings.seed * 10_007
    parts: list[nn.Module] = []
    if first == 0:
        parts.append(seed_weights(Embedding(settings, positions), seed))
    for number in range(first, last):
        feed = None if feeds is None else feeds[number - first]
        layer = Layer(settings, ring, None if feed is None else nn.Identity())
        seed_weights(layer, seed + 2 + number)
        layer.feed = feed
        parts.append(layer)
    if last == settings.num_layers:
        parts.append(seed_weights(Head(settings), seed + 1))
    return nn.Sequential(*parts)
