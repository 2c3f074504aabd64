"""How a job trains, as far as the files that describe its model say: sequence, tokens per step, number format."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from traceanalyzer.model_configs.defaults import with_defaults
from traceanalyzer.model_configs.encoders import vit_sequence_length
from traceanalyzer.model_configs.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingSettings:
    """None if the file does not say."""

    sequence_length: int | None = None
    tokens_per_step: int | None = None
    """Over the whole job."""
    num_devices: int | None = None
    dtype: str | None = None
    recompute: str | None = None
    """`none`, `selective` or `full`."""


def read_training_settings(config: Mapping[str, object], source: str) -> TrainingSettings:
    """Settings in Megatron-LM's arguments or torchtitan's job file; a Hugging Face `config.json` has none.

    A ViT's gives the tokens of an image. Raises `InputError` if a setting is not a number.
    """
    settings = Settings(config, source)
    layers = ("num_layers", "hybrid_layer_pattern", "hybrid_override_pattern")
    if (
        settings.has("num_attention_heads")
        and any(settings.has(name) for name in layers)
        and "model_type" not in config
    ):
        return _megatron(settings)
    if settings.text("model_type") == "vit":
        return TrainingSettings(sequence_length=vit_sequence_length(with_defaults(settings, "vit")))
    training = settings.table("training")
    return TrainingSettings() if training is None else _torchtitan(settings, training)


def _megatron(settings: Settings) -> TrainingSettings:
    """An fp8 run has no single number format: it is left to the recorded shapes."""
    sequence = _positive(settings, "seq_length")
    batch = _positive(settings, "global_batch_size")
    dtype = None
    if not settings.has("fp8"):
        dtype = "bf16" if settings.flag("bf16") else "fp16" if settings.flag("fp16") else None
    granularity = settings.text("recompute_granularity", "none")
    # A block recomputes its first layers only: how many FLOPs that is, is not taken from here.
    is_whole = granularity != "full" or settings.text("recompute_method") == "uniform"
    return TrainingSettings(
        sequence_length=sequence,
        tokens_per_step=sequence * batch if sequence and batch else None,
        num_devices=_positive(settings, "world_size"),
        dtype=dtype,
        recompute=granularity if is_whole and granularity in {"none", "selective", "full"} else None,
    )


def _torchtitan(settings: Settings, training: Settings) -> TrainingSettings:
    """The `selective` mode of torchtitan recomputes other operators than core attention: not counted.

    A batch that is left at -1 is every replica's own batch once: known where the file says how many replicas there are.
    """
    sequence = _positive(training, "seq_len")
    degrees = _degrees(settings)
    batch = _positive(training, "global_batch_size")
    if batch is None and degrees is not None and (local := _positive(training, "local_batch_size")):
        batch = local * degrees[0]
    recompute = settings.table("activation_checkpoint")
    mode = recompute.text("mode") if recompute else ""
    return TrainingSettings(
        sequence_length=sequence,
        tokens_per_step=sequence * batch if sequence and batch else None,
        num_devices=None if degrees is None else degrees[0] * degrees[1],
        dtype=training.text("mixed_precision_param") or None,
        recompute=mode if mode in {"none", "full"} else None,
    )


def _degrees(settings: Settings) -> tuple[int, int] | None:
    """Replicas, and ranks of each, from the configuration that torchtitan saves; None if one is left to torchtitan (-1)."""
    table = settings.table("parallelism") if settings.has("model_spec") else None
    if table is None:
        return None
    names = (
        "data_parallel_replicate",
        "data_parallel_shard",
        "tensor_parallel",
        "context_parallel",
        "pipeline_parallel",
    )
    sizes = [_positive(table, f"{name}_degree") for name in names]
    known = [size for size in sizes if size is not None]
    if len(known) < len(sizes):
        return None
    return known[0] * known[1], known[2] * known[3] * known[4]


def _positive(settings: Settings, key: str) -> int | None:
    """A whole number above 0; None if it is absent or stands for "not set" (-1 in torchtitan)."""
    if not settings.has(key) or settings.config.get(key) == -1:
        return None
    return settings.integer(key) or None
