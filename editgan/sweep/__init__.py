"""Stage `sweep`: every method of the benchmark at every strength, judged head by head."""
