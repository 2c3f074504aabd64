"""The part of `review.json` about other configurations of the job."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from traceanalyzer.review.part import Part


class ConfigurationChange(Part, frozen=True, kw_only=True):
    """One decision taken otherwise, by the model of `plan job` with this run's numbers."""

    decision: Literal["schedule", "microbatch", "zero", "recompute", "layout"]
    change: Annotated[str, Meta(description="What would be other, and what it is.")]
    configuration: Annotated[str, Meta(description="The whole of it.")]
    step_ms: float
    saves_ms: Annotated[float, Meta(description="Of this run's step. Savings of several changes do not add up.")]
    memory_bytes: Annotated[float, Meta(description="Predicted, of the fullest rank.")]
    headroom_bytes: Annotated[float, Meta(description="What that leaves of the device; below zero: it does not fit.")]


class NextConfigurations(Part, frozen=True, kw_only=True):
    """The best three changes of the configuration; `reason` where they are withheld."""

    reason: Annotated[str | None, Meta(description="Why nothing is predicted; null where it is.")] = None
    configuration: Annotated[str | None, Meta(description="This run's own, as known or taken.")] = None
    cluster: Annotated[str | None, Meta(description="The described cluster that it is priced on.")] = None
    step_factor: Annotated[
        float | None, Meta(description="Measured step ÷ predicted step of the run's own configuration.")
    ] = None
    step_error: Annotated[
        float | None, Meta(description="Of its own step, on steps that the factor was not taken from; a share.")
    ] = None
    memory_bytes: Annotated[float | None, Meta(description="Predicted for this run, fullest rank.")] = None
    options: Annotated[list[ConfigurationChange], Meta(description="Best first, one per decision.")] = []
    too_large: Annotated[
        ConfigurationChange | None, Meta(description="Would save more than any of these, and does not fit.")
    ] = None
    assumptions: Annotated[list[str], Meta(description="What was taken without being known.")] = []
