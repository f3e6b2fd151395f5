"""Edits of part masks, turned into latent edits and reusable editing vectors (EditGAN, section 3)."""
