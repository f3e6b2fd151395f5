"""The methods that the benchmark compares, and the smile protocol."""
