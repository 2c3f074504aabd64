"""A small GPT-like transformer that can be cut into stages anywhere.

Every part draws its weights from a generator seeded by its own place in the model, so that a model cut into stages
over many ranks starts from exactly the weights of the same model in one process.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 - torch's own convention

from traceanalyzer.model import ModelShape


class Attention(nn.Module):
    """The attention half of a block, norm and residual included: `[batch, length, hidden]` to the same."""

    def __init__(self, shape: ModelShape) -> None:
        super().__init__()
        hidden = shape.hidden_size
        self.num_heads = shape.num_heads
        self.norm = nn.LayerNorm(hidden)
        self.qkv = nn.Linear(hidden, 3 * hidden, bias=False)
        self.projection = nn.Linear(hidden, hidden, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Causal self-attention."""
        batch, length, hidden = x.shape
        qkv = self.qkv(self.norm(x)).view(batch, length, 3, self.num_heads, hidden // self.num_heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        return x + self.projection(mixed.transpose(1, 2).reshape(batch, length, hidden))


class Mlp(nn.Module):
    """The MLP half of a block, norm and residual included."""

    def __init__(self, shape: ModelShape) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(shape.hidden_size)
        self.up = nn.Linear(shape.hidden_size, shape.ffn_size, bias=False)
        self.down = nn.Linear(shape.ffn_size, shape.hidden_size, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Two matrices with a GELU between."""
        return x + self.down(F.gelu(self.up(self.norm(x))))


def block(shape: ModelShape) -> nn.Sequential:
    """One pre-norm layer."""
    return nn.Sequential(Attention(shape), Mlp(shape))


class Embedding(nn.Module):
    """Token ids `[batch, length]` to `[batch, length, hidden]`, with learned positions."""

    def __init__(self, shape: ModelShape, length: int) -> None:
        super().__init__()
        self.tokens = nn.Embedding(shape.vocab_size, shape.hidden_size)
        self.positions = nn.Embedding(length, shape.hidden_size)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Sum of token and position embedding."""
        return self.tokens(ids) + self.positions.weight[: ids.shape[1]]


class Head(nn.Module):
    """`[batch, length, hidden]` to logits `[batch, length, vocab]`."""

    def __init__(self, shape: ModelShape) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(shape.hidden_size)
        self.output = nn.Linear(shape.hidden_size, shape.vocab_size, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits."""
        return self.output(self.norm(x))


def seed_weights(module: nn.Module, seed: int) -> nn.Module:
    """Draw all weights anew: matrices normal with deviation 1/sqrt(inputs), embeddings 0.5, norms the identity."""
    generator = torch.Generator().manual_seed(seed)
    for part in module.modules():
        if isinstance(part, nn.Linear):
            nn.init.normal_(part.weight, std=part.in_features**-0.5, generator=generator)
        elif isinstance(part, nn.Embedding):
            nn.init.normal_(part.weight, std=0.5, generator=generator)
    return module


def parts(shape: ModelShape, length: int, seed: int, first: int, last: int) -> list[nn.Module]:
    """Layers `first` to `last` - 1, preceded by the embedding and followed by the head where the model begins or ends."""
    chosen = [seed_weights(block(shape), seed * 10_007 + 2 + layer) for layer in range(first, last)]
    if first == 0:
        chosen.insert(0, seed_weights(Embedding(shape, length), seed * 10_007))
    if last == shape.num_layers:
        chosen.append(seed_weights(Head(shape), seed * 10_007 + 1))
    return chosen


def stage(shape: ModelShape, length: int, seed: int, index: int, num_stages: int) -> nn.Sequential:
    """Piece `index` of the model cut into `num_stages` runs of layers, as equal as they can be."""
    first = index * shape.num_layers // num_stages
    last = (index + 1) * shape.num_layers // num_stages
    return nn.Sequential(*parts(shape, length, seed, first, last))


def token_loss(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy over all tokens."""
    return F.cross_entropy(logits.flatten(0, 1), targets.flatten())
