"""StyleGAN2: networks, losses, warm start and training."""
