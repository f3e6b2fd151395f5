"""Metrics of edited pictures, and one table for the results."""
