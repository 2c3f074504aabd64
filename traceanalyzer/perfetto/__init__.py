"""One timeline of all ranks for trace viewers: what was recorded, and beside it what was measured of it.

A run and its result become processes of tracks (`tracks`), rank after rank, and are written as they are made
(`formats`): Perfetto's own format, or Chrome's JSON. Nothing is drawn twice and nothing is left out: durations on the
tracks sum to the tables that they are made of.
"""
