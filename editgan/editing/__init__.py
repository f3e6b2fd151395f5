"""Edits painted on a part mask, turned into latent edits and reusable editing vectors (EditGAN, section 3)."""
