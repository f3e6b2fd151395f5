"""Stage `maskgan`: draws faces from the masks of all training images, by MaskGAN, for the benchmark."""
