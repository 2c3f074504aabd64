"""Fuzzing of every reader and of the whole path to the report, in process and repeatable: mutant n of a seed is always the same.

    PYTHONPATH=tests/support python -m fuzzing readers --count 100000
    PYTHONPATH=tests/support python -m fuzzing whole --count 10000 --first 5000

`seeds` makes small sound inputs of every kind, `mutations` damages their structure or their bytes, `targets` says what is
done with a mutant and what may come of it, `campaign` counts.
"""
