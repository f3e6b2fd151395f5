"""Edits of part masks: the objective and its loss weights, latent edits, editing vectors (EditGAN, section 3)."""
