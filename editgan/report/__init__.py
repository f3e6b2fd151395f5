"""Tables, curves and report pages; comparison of runs; regression check against the baseline."""
