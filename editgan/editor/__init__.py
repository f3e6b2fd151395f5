"""The Editor API and what serves it."""
