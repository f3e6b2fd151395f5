"""The methods that EditGAN is compared with, rebuilt from their papers on the same generator, one file each."""
