"""Cars: rendered pictures of a class without faces, with the interface that all such classes share."""

from editgan.data.cars.identity import CHANGES, Identity, changed, sample_identity
from editgan.data.cars.paint import CLASSES
from editgan.data.cars.render import LABELS_VERSION, VERSION, render
from editgan.data.cars.view import View, sample_view

__all__ = [
    "CHANGES", "CLASSES", "LABELS_VERSION", "VERSION",
    "attributes", "changed", "render", "sample_identity", "sample_view",
]  # fmt: skip


def attributes(identity: Identity, view: View) -> dict:
    """The attributes of a picture, as numbers: what `changed` changes, proportions and paint (sRGB), and the view.

    Lengths are in metres, `azimuth` in radians (0: seen from the front, positive: from its right side).
    """
    shape = identity.shape
    red, green, blue = identity.paint
    return {
        "wheel_size": shape.wheel,
        "spokes": identity.spokes,
        "headlights": identity.headlights,
        "bonnet_length": shape.bonnet,
        "roof_height": shape.roof,
        "length": shape.bonnet + shape.tail,
        "width": shape.width,
        "clearance": shape.clearance,
        "doors": identity.doors,
        "bed": int(identity.bed),
        "red": red,
        "green": green,
        "blue": blue,
        "azimuth": view.azimuth,
        "camera_height": view.height,
        "camera_distance": view.distance,
        "sun": view.key[1] * view.sun[1],
    }
