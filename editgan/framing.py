"""Where a face stands in a picture: the one framing that renderer and identity networks share.

All positions are fractions of the side of a square picture, x to the right and y down, for a head seen from the front.
"""

from __future__ import annotations

EYE_DISTANCE = 0.25  # between the centres of the two eyeballs, as in FFHQ
EYE_CENTRE = (0.5, 0.46)  # the point midway between them
