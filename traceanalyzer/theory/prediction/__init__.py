"""Several schedules predicted for one job."""
