"""A name for one run that all its ranks agree on, made when recorders start."""

from __future__ import annotations

import hashlib
import secrets
from datetime import UTC, datetime

from instrumented_runs.recorder.start.environment import Surroundings


def new_job_id() -> str:
    """A name that no other run has: the time, and eight random hexadecimal digits."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{secrets.token_hex(4)}"


def agreed_job_id(found: Surroundings) -> str:
    """A name that every rank finds by itself, from what their launcher reported all of them.

    Ranks whose launcher says nothing get a name each.
    """
    if found.run is None:
        return new_job_id()
    return f"{found.launcher}-{hashlib.sha256(f'{found.run} {found.num_ranks}'.encode()).hexdigest()[:12]}"
