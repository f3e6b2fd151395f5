"""Comparison of runs; regression check against the baseline."""
