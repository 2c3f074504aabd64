"""Which rank a file or a process is of: by its name, by what it records, by its place among the others."""
