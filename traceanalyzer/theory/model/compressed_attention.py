"""DeepSeek-V4's attention and hyper-connections: parameters, and pairs of a query and a key."""

from __future__ import annotations

from traceanalyzer.model import CompressedAttention, Indexer, ModelShape


def compressed_matrices(shape: ModelShape, sizes: CompressedAttention, kind: str) -> int:
    """Parameters of the projections: queries by a low rank, one key, grouped output, and the compressor's two."""
    hidden, width = shape.hidden_size, shape.num_heads * shape.head_size
    queries = sizes.query_rank * (hidden + width)
    output = width * sizes.output_rank + sizes.output_groups * sizes.output_rank * hidden
    return queries + hidden * shape.head_size + output + 2 * hidden * shape.head_size * _series(kind)


def compressed_small(shape: ModelShape, sizes: CompressedAttention, kind: str) -> int:
    """Parameters that no matrix multiplication reads: norms, sinks, positions inside a compressed block."""
    norms = sizes.query_rank + shape.head_size + shape.num_heads
    if kind == "window":
        return norms
    return norms + shape.head_size * (1 + _series(kind) * _rate(sizes, kind))


def compressed_indexer(shape: ModelShape, sizes: CompressedAttention, chooser: Indexer) -> tuple[int, int]:
    """Parameters of the indexer of a `sparse` layer: its projections with a compressor of their own, and the rest."""
    width, series = chooser.head_size, _series("sparse")
    matrices = 2 * shape.hidden_size * series * width + sizes.query_rank * chooser.num_heads * width
    matrices += shape.hidden_size * chooser.num_heads
    return matrices, width * (1 + series * sizes.sparse_rate)


def hyper_connections(shape: ModelShape) -> tuple[int, int]:
    """Parameters of the projection around one part of a layer (weights into, out of and between streams), and the rest."""
    streams = shape.residual_streams
    if streams <= 1:
        return 0, 0
    weights = 2 * streams + streams * streams
    return weights * streams * shape.hidden_size, weights + 3


def final_connections(shape: ModelShape) -> tuple[int, int]:
    """Parameters that join the streams before the output matrix."""
    streams = shape.residual_streams
    return (0, 0) if streams <= 1 else (streams * streams * shape.hidden_size, streams + 1)


def twice_compressed_keys(shape: ModelShape, kind: str, sequence_length: int, span_halves: int, *, window: bool) -> int:
    """Twice the mean number of keys a query reads: those of its window and the compressed ones."""
    sizes = shape.compressed
    if sizes is None or not span_halves:
        return 0
    near = _twice_limited(sequence_length, sizes.window if window else 0, span_halves)
    if kind == "window":
        return near
    blocks = sequence_length // _rate(sizes, kind)
    limit = shape.indexer.top_k if kind == "sparse" and window and shape.indexer else 0
    return near + _twice_limited(blocks, limit, span_halves)


def twice_indexed_keys(sizes: CompressedAttention, sequence_length: int, span_halves: int) -> int:
    """Twice the mean number of compressed keys that an indexer scores for a query."""
    return sequence_length // sizes.sparse_rate * span_halves


def _twice_limited(keys: int, limit: int, span_halves: int) -> int:
    if 0 < limit < keys:
        return (2 * keys * limit - limit * limit) // keys
    return keys * span_halves


def _series(kind: str) -> int:
    """Series of keys that a compressor makes: two overlapping ones in a `sparse` layer."""
    return {"sparse": 2, "heavy": 1}.get(kind, 0)


def _rate(sizes: CompressedAttention, kind: str) -> int:
    return sizes.sparse_rate if kind == "sparse" else sizes.heavy_rate
