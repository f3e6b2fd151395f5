"""Rendered faces of cats: the same small interface as every rendered class.

cat, view = sample_identity(rng), sample_view(rng)
image, mask = render(cat, view, 64, 2)
other, _ = render(changed(cat, "ear_size", 0.4), view, 64, 2)   # the same picture with larger ears
"""

from editgan.data.cats.identity import attributes, changed, sample_identity
from editgan.data.cats.paint import CLASSES
from editgan.data.cats.render import LABELS_VERSION, VERSION, render, sample_view

__all__ = [
    "CLASSES", "LABELS_VERSION", "VERSION",
    "attributes", "changed", "render", "sample_identity", "sample_view",
]  # fmt: skip
