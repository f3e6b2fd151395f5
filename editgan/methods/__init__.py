"""The methods compared by the benchmark, and the smile protocol."""
