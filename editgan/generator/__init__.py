"""StyleGAN2: networks, losses and training."""
