"""Stage `maskgan`: MaskGAN, trained on the masks of all training images, for the benchmark."""
