"""Stage `samples`: quality of the generator's samples, measured by networks that are not used in training."""
