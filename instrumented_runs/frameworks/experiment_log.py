"""Headline numbers of a review beside the curves that an experiment tracker keeps: W&B, TensorBoard, MLflow.

    result = traceanalyzer.analyze("runs/mine")
    log_to_wandb(result.review, wandb.run)

Numbers have the names that they have in `review.json`. What is withheld is not logged: a tracker would draw it as 0.
Each function takes the tracker's own object, so none of the packages is needed here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from traceanalyzer.review import Review

PREFIX = "traceanalyzer/"
HEADLINE = (
    "step.duration_ms.median",
    "step.noise_ms",
    "bubble.measured_share",
    "bubble.theory.simulated_share",
    "bubble.theory.closed_form_share",
    "bubble.overhead_share",
    "all_to_all.wait_share",
    "all_to_all.transfer_share",
    "all_to_all.exposed_share",
    "all_to_all.rank_load_max_over_mean",
    "all_to_all.imbalance_cost_ms",
    "mfu.mfu",
    "mfu.hfu",
    "mfu.predicted_mfu",
    "mfu.tokens_per_second",
)
"""Figures of the review, by path; shares are of 1."""


class Scalars(Protocol):
    """TensorBoard's `SummaryWriter`, of torch or tensorboardX."""

    def add_scalar(self, tag: str, scalar_value: float, global_step: int | None = None) -> Any:  # noqa: ANN401 - theirs
        """Keep one number."""


class WandbRun(Protocol):
    """A run of W&B, `wandb.run`."""

    def log(self, data: dict[str, Any], step: int | None = None, commit: bool | None = None) -> Any:  # noqa: ANN401, FBT001 - theirs
        """Keep several numbers."""


class Mlflow(Protocol):
    """The module `mlflow`, with a run that was started."""

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> Any:  # noqa: ANN401 - theirs
        """Keep several numbers."""


def headline_numbers(review: Review) -> dict[str, float]:
    """Headline figures that are known, by `PREFIX` and their path in the review, and how much the largest fault costs.

    `findings.num_failed` counts failed checks; `findings.largest_worth_ms` is the worth of the worthiest, per step.
    """
    figures = {path: review.figures[path].value for path in HEADLINE if path in review.figures}
    failed = [finding for finding in review.findings if not finding.passed]
    worths = [finding.worth_ms for finding in failed if finding.worth_ms is not None]
    figures["findings.num_failed"] = float(len(failed))
    figures["findings.largest_worth_ms"] = max(worths, default=None)
    return {f"{PREFIX}{path}": value for path, value in figures.items() if value is not None}


def log_to_wandb(review: Review, run: WandbRun, step: int | None = None) -> Mapping[str, float]:
    """Log to a run of W&B; what was logged."""
    numbers = headline_numbers(review)
    run.log(dict(numbers), step=step, commit=True)
    return numbers


def log_to_tensorboard(review: Review, writer: Scalars, step: int | None = None) -> Mapping[str, float]:
    """Log as scalars; what was logged."""
    numbers = headline_numbers(review)
    for name, value in numbers.items():
        writer.add_scalar(name, value, step)
    return numbers


def log_to_mlflow(review: Review, mlflow: Mlflow, step: int | None = None) -> Mapping[str, float]:
    """Log as metrics of the run that was started; what was logged."""
    numbers = headline_numbers(review)
    mlflow.log_metrics(dict(numbers), step=step)
    return numbers
