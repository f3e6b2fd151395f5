"""Metrics of edited pictures (`scores.py`), and the table that keeps them (`table.py`)."""
