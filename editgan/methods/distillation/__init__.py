"""Stage `distillation`: the smile direction of InterFaceGAN distilled into a network on images, for the benchmark."""
