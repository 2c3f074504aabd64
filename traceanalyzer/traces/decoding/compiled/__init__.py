"""Decoding by compiled code, equal to the exact decoder."""
