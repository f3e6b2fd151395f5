"""Lets a torchvision that was linked against CUDA import beside a torch without CUDA.

Such a torchvision cannot load its compiled operators and then fails while registering the meaning of two of them.
Declaring their signatures is enough for everything this project uses (models, transforms, and the metric packages
that import torchvision); the operators themselves (`nms`, `roi_align`) stay unavailable. A torchvision that matches
its torch loads its operators here a moment early and is otherwise untouched.
"""

import importlib.util
import sys
from importlib.abc import MetaPathFinder
from pathlib import Path

OPERATOR_SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)

_libraries = []  # torch forgets the schemas of a Library that is collected


class _TorchvisionFinder(MetaPathFinder):
    """Finds nothing itself: it runs the preparation once, just before torchvision is first looked up."""

    def find_spec(self, fullname, path=None, target=None):
        if fullname == "torchvision":
            sys.meta_path.remove(self)
            prepare_torchvision()
        return None


def install_torchvision_hook() -> None:
    """Prepare torchvision at its first import, whoever imports it; torch is not imported before that."""
    if "torchvision" not in sys.modules and not any(isinstance(f, _TorchvisionFinder) for f in sys.meta_path):
        sys.meta_path.insert(0, _TorchvisionFinder())


def prepare_torchvision() -> str:
    """Make `import torchvision` work. Returns "absent", "native" (operators loaded) or "python-only"."""
    spec = importlib.util.find_spec("torchvision")
    if spec is None or spec.origin is None:
        return "absent"
    import torch

    try:
        torch.ops.load_library(str(Path(spec.origin).with_name("_C.so")))
        return "native"
    except (OSError, ImportError):
        library = torch.library.Library("torchvision", "FRAGMENT")
        for schema in OPERATOR_SCHEMAS:
            library.define(schema)
        _libraries.append(library)
        return "python-only"
