"""Pipeline parallelism: plan, schedules, replicas and links."""
