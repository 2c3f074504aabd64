"""Decoding by compiled code, equal to the exact decoder. `docs/compiled-decoding.md` explains why, how, and how that is proved.

acceleration    decides when a process loads it, and when it compiles
frames          `FastDecoder`: a piece of text → the columns that `decode.decode_events` gives, or none
events          the scan: events → one row of numbers each
strings         the different strings of a piece, numbered
grammar         JSON, byte by byte
"""
