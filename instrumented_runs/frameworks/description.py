"""What a framework knows of its job, as the description that the recorder writes."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from traceanalyzer.errors import TraceAnalyzerError
from traceanalyzer.job import Job
from traceanalyzer.model_configs import read_model_config


def job_of_model(
    config: Mapping[str, object] | None = None,
    *,
    dtype: str = "unknown",
    sequences_per_step: int = 0,
    sequence_length: int = 0,
    recompute: str | None = None,
) -> Job:
    """A job that trains the model described by `config`, as Hugging Face's config.json describes it.

    A model that is not known here is left out, and MFU is then withheld with that reason.

    Args:
        config: settings of the model.
        dtype: number format that matrix multiplies run in, for example `bf16`.
        sequences_per_step: over the whole job; 0: not known.
        sequence_length: tokens of a sequence; 0: not known.
        recompute: `full`, `selective` or None.
    """
    job = dataclasses.replace(
        Job.of(),
        dtype=dtype,
        sequence_length=sequence_length,
        tokens_per_step=sequences_per_step * sequence_length,
        recompute=recompute,
    )
    if config is None:
        return job
    try:
        return dataclasses.replace(job, model=read_model_config(config))
    except TraceAnalyzerError:
        return job
