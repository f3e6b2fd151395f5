"""The smile benchmark: its rows, statistics, tables and report."""
