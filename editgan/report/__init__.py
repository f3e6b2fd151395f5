"""Tables, curves and pages; comparison of runs; regression against the baseline."""
