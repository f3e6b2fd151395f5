"""The metrics of sampled images as a Markdown table."""

from typing import NamedTuple

from editgan.metrics import KID_SUBSETS, NEIGHBOURS
from editgan.samples.params import SamplesParams

JUDGED_IMAGES = 2000  # shown to the face detector and the smile networks, where a row has as many
TITLES = {
    "samples": "samples of G",
    "real": "other real images (floor)",
    "real_blurred": "the same, blurred by sigma 1 px",
    "real_noisy": "the same with mild noise",
}
SCALES = {"kid": (1000, 2), "fid": (1, 2), "precision": (1, 3), "recall": (1, 3), "face": (1, 1), "smiling": (1, 1)}
NOTES = """\
- **FID, KID, precision, recall** (k = {k}) compare {images} images of a row with {images} training images. The real
  images are {images} other training images. Features: efflite0 (EfficientNet-Lite0) and alexnet (mean and standard
  deviation of the last map of AlexNet at 224 px, standardised by the training images). Neither is used in training, but
  the projected discriminator uses Lite1, which is related to Lite0. If the two disagree, trust alexnet. The values are
  not comparable with values from Inception features. Package clean-fid computes FID and KID. KID is the mean over
  {subsets} subsets.
{of_faces}- **l2_to_nearest**: mean over the given number of samples, or of {unseen}; **least**: the smallest value.
- Samples are drawn without truncation, with constant noise.
"""
OF_FACES = """\
- **face**: percent of images in which BlazeFace detects a face. **smiling**: percent that an expression network calls
  smiling. Both use the first {judged} images of a row.
"""


class Measure(NamedTuple):
    """What was measured of a set of images."""

    metric: str  # `fid`, `kid`, `face`, ...
    samples: int  # number of images from which the value is computed
    network: str = ""  # the measuring network, if there is one

    @property
    def name(self) -> str:
        """As in metrics.json: `kid5k_alexnet`."""
        counted = f"{self.metric}{thousands(self.samples)}"
        return f"{counted}_{self.network}" if self.network else counted


Measured = dict[str, dict[Measure, float]]  # by row


def report(measured: Measured, params: SamplesParams, *, faces: bool = True) -> str:
    """table.md: one row per set of images, then the single metrics."""
    columns = list(measured["samples"])
    shared = [one for one in columns if one in measured["real"]]
    titles = [f"{one.name} x1e3" if one.metric == "kid" else one.name for one in shared]
    # by hand: `tabulate` pads the cells, so a longer number would change every line of the file
    lines = ["# Quality of samples", "", "| | " + " | ".join(titles) + " |", "|---|" + "---:|" * len(titles)]
    for row, title in TITLES.items():
        cells = [_cell(one, measured[row].get(one)) for one in shared]
        lines.append(f"| {title} | " + " | ".join(cells) + " |")
    alone = [f"- {one.name} of the samples: {measured['samples'][one]:.1f}" for one in columns if one not in shared]
    for one, value in measured.get("neutral_to_smiling", {}).items():
        pair = "neutral and smiling test heads" if faces else "test pictures and the same with one attribute changed"
        alone.append(f"- {one.name} x1e3 between {pair}, for comparison: {1000 * value:.2f}")
    for one, value in measured["copies"].items():
        alone.append(f"- {one.name}: squared error to the nearest training image, in [-1, 1]: {value:.4f}")
    unseen = f"unseen test {'heads' if faces else 'pictures'}"
    counts = dict(images=params.images, judged=min(JUDGED_IMAGES, params.images), subsets=KID_SUBSETS)
    notes = NOTES.format(k=NEIGHBOURS, of_faces=OF_FACES.format(**counts) if faces else "", unseen=unseen, **counts)
    return "\n".join([*lines, "", *alone, "", notes])


def _cell(one: Measure, value: float | None) -> str:
    if value is None:
        return "-"
    scale, digits = SCALES[one.metric]
    return f"{scale * value:.{digits}f}"


def thousands(count: int) -> str:
    """5000 -> "5k", 400 -> "400", as used in metric names."""
    return f"{count // 1000}k" if count % 1000 == 0 else str(count)
