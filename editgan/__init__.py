"""EditGAN (Ling et al., NeurIPS 2021) rebuilt as a pipeline that can be rerun: one package per stage."""

from editgan._compat import install_torchvision_hook

__version__ = "0.1.0"

install_torchvision_hook()
