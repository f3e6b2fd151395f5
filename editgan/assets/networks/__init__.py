"""One pretrained network a file. All take float images [N, 3, H, W] in [-1, 1] and prepare them differentiably."""
