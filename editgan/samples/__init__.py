"""Stage `samples`: what the generator's own samples are worth, by networks that trained nothing."""
