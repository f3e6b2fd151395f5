"""Runs stages: environment, graph, processes and locks, tracking, progress."""
