"""One pretrained network per file. All take float images [N, 3, H, W] in [-1, 1]; preprocessing is differentiable."""
