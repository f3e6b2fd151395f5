"""Few-shot part segmentation: an ensemble of pixel classifiers on the generator's features (method of DatasetGAN)."""
