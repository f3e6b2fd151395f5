"""EditGAN (Ling et al., NeurIPS 2021) rebuilt as a pipeline that can be rerun: one package per stage."""

import sys

from editgan.runtime.compat import TorchvisionFinder

__version__ = "0.1.0"

if "torchvision" not in sys.modules:
    sys.meta_path.insert(0, TorchvisionFinder())
