"""Chance, placement, volume and network time of expert layers."""
