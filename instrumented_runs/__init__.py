"""Reference training runs whose schedule, sizes and faults are known. The only place that imports torch."""
