"""The Editor API and the code that serves it."""
