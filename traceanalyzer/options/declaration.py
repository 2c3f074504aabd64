"""What is declared of the job behind traces, from plain values and files."""

from __future__ import annotations

from traceanalyzer.errors import UsageError
from traceanalyzer.gaps.efficiency.declaration import Declaration, DeclaredFlops
from traceanalyzer.hardware import check_any_peak, parse_dtype
from traceanalyzer.model import ModelShape
from traceanalyzer.model_configs import with_adapter
from traceanalyzer.options.job_file import JobFile, read_adapter_file, read_job_file
from traceanalyzer.options.kernel_rules import load_kernel_rules


def declaration(  # noqa: PLR0913 - everything that may be declared
    *,
    job_file: str | None = None,
    adapter: str | None = None,
    tokens_per_step: int | None = None,
    sequence_length: int | None = None,
    num_devices: int | None = None,
    dtype: str | None = None,
    recompute: str | None = None,
    peak_tflops: float | None = None,
    flops_per_token: float | None = None,
    flops_per_step: float | None = None,
    kernel_rules: str | None = None,
) -> Declaration:
    """What the options declare. Raises `UsageError` and, where the file is none of the known kinds, `InputError`."""
    if dtype is not None:
        parse_dtype(dtype)
    found = JobFile() if job_file is None else read_job_file(job_file)
    settings = found.training
    model = None if found.job else found.model
    if adapter is not None:
        model = _adapted(model or (found.job.model if found.job else None), adapter)
    return Declaration(
        job=found.job,
        action_pattern=found.action_pattern,
        model=model,
        tokens_per_step=tokens_per_step or settings.tokens_per_step,
        sequence_length=sequence_length or settings.sequence_length,
        num_devices=num_devices or settings.num_devices,
        dtype=dtype or settings.dtype,
        recompute=recompute or settings.recompute,
        peak_flops_per_device=None if peak_tflops is None else check_any_peak(peak_tflops * 1e12),
        flops=_flops(flops_per_token, flops_per_step) or _flops(found.flops_per_token, found.flops_per_step),
        kernel_rules=load_kernel_rules(kernel_rules),
    )


def _adapted(model: ModelShape | None, adapter: str) -> ModelShape:
    """The model with everything frozen but the adapter. Raises `UsageError` without a model."""
    if model is None or not model.num_layers:
        raise UsageError("--adapter needs the model it adapts", "give the base model's config.json (--job FILE)")
    return with_adapter(model, read_adapter_file(adapter), adapter)


def _flops(per_token: float | None, per_step: float | None) -> DeclaredFlops | None:
    """What is declared of FLOPs. Raises `UsageError` if it is declared twice."""
    if per_token is None and per_step is None:
        return None
    if per_token is not None and per_step is not None:
        raise UsageError("FLOPs are declared per token and per step", "give --flops-per-token or --flops-per-step")
    return DeclaredFlops(per_token=per_token, per_step=per_step)
