"""A language-modelling task that needs no data: every token determines the next one."""

from __future__ import annotations

import torch


def batch(seed: int, step: int, num_sequences: int, length: int, vocab_size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Inputs and targets, both `[num_sequences, length]` int64.

    The next token is a fixed random permutation of the current one, so a model that learns anything at all loses
    loss within a few steps. Equal arguments give equal batches on every rank.
    """
    rule = torch.randperm(vocab_size, generator=torch.Generator().manual_seed(seed))
    draw = torch.Generator().manual_seed(seed * 1_000_003 + step + 1)
    tokens = torch.randint(vocab_size, (num_sequences, 1), generator=draw)
    for _ in range(length):
        tokens = torch.cat([tokens, rule[tokens[:, -1:]]], dim=1)
    return tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous()
