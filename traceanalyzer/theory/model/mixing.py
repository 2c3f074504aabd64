"""What mixing tokens costs beyond the weights: pairs of a query and a key, and the states of recurrent mixers."""

from __future__ import annotations

from traceanalyzer.model import GatedDeltaNet, Mamba2, ModelShape


def mamba_recurrence(sizes: Mamba2, *, megatron: bool) -> int:
    """Forward FLOPs of a token: every channel adds an outer product to its state and reads the state; a convolution.

    Megatron-LM takes 7 per element of the state and no convolution.
    """
    state = sizes.inner_size * sizes.state_size
    return 7 * state if megatron else 4 * state + 2 * sizes.conv_channels * sizes.conv_size


def delta_recurrence(sizes: GatedDeltaNet, *, megatron: bool) -> int:
    """Forward FLOPs of a token: every value head reads its state by the key, corrects it and reads it by the query.

    Megatron-LM takes four products of the value head's size squared.
    """
    convolved = (2 * sizes.key_size + sizes.value_size) * sizes.conv_size
    products = 4 * sizes.value_head_size if megatron else 3 * sizes.key_head_size
    return 2 * (convolved + sizes.num_value_heads * sizes.value_head_size * products)


def twice_keys_read(shape: ModelShape, sequence_length: int, layer: int, span_halves: int, *, window: bool) -> int:
    """Twice the mean number of keys a query reads, of a sequence whose half or whole is read.

    With `window` a sliding window w leaves `s w - w^2 / 2` of `s^2` pairs, and a chunk of w has `w^2 / 2`. An encoder's
    query reads the keys on both sides.
    """
    limit = shape.attention_window if window and layer in shape.windowed_layers else 0
    if layer < shape.num_encoder_layers:
        every = 2 * sequence_length if span_halves else 0
        return min(every, 2 * limit) if limit else every
    every = sequence_length * span_halves
    if limit and shape.chunked_attention:
        whole, rest = divmod(sequence_length, limit)
        return (whole * limit * limit + rest * rest) // sequence_length
    chosen = shape.indexer.top_k if window and shape.indexer else 0
    limit = min((keys for keys in (limit, chosen) if keys), default=0)
    if 0 < limit < sequence_length:
        return (2 * sequence_length * limit - limit * limit) // sequence_length
    return every
