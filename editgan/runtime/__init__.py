"""What runs stages: environment, graph, processes and locks, tracking, progress."""
