"""Generators that other programs trained: readers of their files, and the conversion to this project's networks."""
