"""Arguments of a range → stage, chunk, place and microbatch of the action that it marks.

Read are whole numbers under the keys that training frameworks use.
"""

from __future__ import annotations

import polars as pl

_KEYS = {
    "stage": "stage|stage_id|stage_idx|stage_index|pp_stage|pipeline_stage",
    "place": "pp_rank|pipeline_rank|pipeline_parallel_rank|pipeline_model_parallel_rank",
    "chunk": "model_chunk|model_chunk_id|chunk|chunk_id|vp_stage|vp_rank|virtual_pipeline_rank|virtual_stage",
    "microbatch": "microbatch|microbatch_id|microbatch_idx|micro_batch|micro_batch_id|mb|mb_id|mb_index",
}
_ITERATION = "iteration|train_step|global_step"


def with_arguments(ranges: pl.DataFrame) -> pl.DataFrame:
    """Replace `args` by `arg_stage`, `arg_place`, `arg_chunk` and `arg_microbatch`; null if unknown."""
    return ranges.with_columns(_number(keys).alias(f"arg_{name}") for name, keys in _KEYS.items()).drop("args")


def iteration() -> pl.Expr:
    """The training step that an event's `args` show."""
    return _number(_ITERATION)


def _number(keys: str) -> pl.Expr:
    return pl.col("args").str.extract(rf'"(?i:{keys})"\s*:\s*"?(\d{{1,9}})"?\s*[,}}]').cast(pl.Int32, strict=False)
