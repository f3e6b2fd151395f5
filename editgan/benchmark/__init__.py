"""The smile benchmark: which rows are compared, statistics, and the tables (`titles.py`: names of rows and columns)."""
