"""Heads: a mesh with hair, beard and glasses, painted and lit, with an expression."""
