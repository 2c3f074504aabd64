"""What the files of frameworks say of a configuration."""

from __future__ import annotations

from dataclasses import dataclass

from traceanalyzer.theory.planning.job import Configuration, PlanJob


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """A configuration with what belongs to it."""

    configuration: Configuration
    sequence_length: int | None
    """None if the file does not say."""
    batch_size: int

    @classmethod
    def of(cls, job: PlanJob, configuration: Configuration) -> Setting:
        """The setting of a planned configuration."""
        return cls(configuration=configuration, sequence_length=job.sequence_length, batch_size=job.batch_size)
