"""One way to measure edited pictures, and one table for the results."""
