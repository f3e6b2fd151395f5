"""Rendered heads: rendering, splits, image archives and reading."""
