"""EditGAN (Ling et al., NeurIPS 2021) rebuilt as a pipeline that can be rerun: one package per stage.

Importing it lets a torchvision that was linked against CUDA import beside a torch without CUDA. Such a torchvision
cannot load its compiled operators and then fails while registering the meaning of two of them. Declaring their
signatures is enough for everything this project uses (models, transforms, and the metric packages that import
torchvision); the operators themselves (`nms`, `roi_align`) stay unavailable. A torchvision that matches its torch loads
its operators a moment early and is otherwise untouched.
"""

import importlib.util
import sys
from importlib.abc import MetaPathFinder
from pathlib import Path

__version__ = "0.1.0"

OPERATOR_SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
libraries = []  # torch forgets the schemas of a Library that is collected


class TorchvisionFinder(MetaPathFinder):
    """Finds nothing itself: it prepares torchvision just before that is first imported, and torch is not until then."""

    def find_spec(self, fullname, path=None, target=None):
        if fullname == "torchvision":
            sys.meta_path.remove(self)
            prepare_torchvision()
        return None


def prepare_torchvision() -> None:
    """Load torchvision's operators, or else declare two of them."""
    import torch

    try:
        torch.ops.load_library(str(Path(importlib.util.find_spec("torchvision").origin).with_name("_C.so")))
    except (OSError, ImportError):
        libraries.append(torch.library.Library("torchvision", "FRAGMENT"))
        for schema in OPERATOR_SCHEMAS:
            libraries[-1].define(schema)


if "torchvision" not in sys.modules:
    sys.meta_path.insert(0, TorchvisionFinder())
