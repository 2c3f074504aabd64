"""Broken inputs, each with what must become of it. Imports nothing from the package under test."""
