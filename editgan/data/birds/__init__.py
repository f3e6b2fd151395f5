"""Rendered birds on their perches: the same small interface as every rendered class.

bird, view = sample_identity(rng), sample_view(rng)
image, mask = render(bird, view, 64, 2)
other, _ = render(changed(bird, "wing_raised", 1), view, 64, 2)   # the same picture with its wings raised
"""

from editgan.data.birds.identity import attributes, changed, sample_identity
from editgan.data.birds.paint import CLASSES
from editgan.data.birds.render import LABELS_VERSION, VERSION, render, sample_view

__all__ = [
    "CLASSES", "LABELS_VERSION", "VERSION",
    "attributes", "changed", "render", "sample_identity", "sample_view",
]  # fmt: skip
