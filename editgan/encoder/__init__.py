"""The encoder E (image -> W+), its training, and inversion (encoder, then optimisation)."""
