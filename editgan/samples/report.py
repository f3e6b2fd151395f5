"""The metrics of sampled images as a Markdown table."""

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
- **face**: percent of images in which BlazeFace detects a face. **smiling**: percent that an expression network calls
  smiling. Both use the first {judged} images of a row.
- **l2_to_nearest**: mean over the given number of samples, or of unseen test heads; **least**: the smallest value.
- Samples are drawn without truncation, with constant noise.
"""


def report(metrics: dict[str, dict[str, float]], params: SamplesParams) -> str:
    """table.md: one row per set of images, then the single metrics."""
    columns = list(metrics["samples"])
    shared = [name for name in columns if name in metrics["real"]]
    titles = [f"{name} x1e3" if name.startswith("kid") else name for name in shared]
    # by hand: `tabulate` pads the cells, so a longer number would change every line of the file
    lines = ["# Quality of samples", "", "| | " + " | ".join(titles) + " |", "|---|" + "---:|" * len(titles)]
    for row, title in TITLES.items():
        cells = [_cell(name, metrics[row].get(name)) for name in shared]
        lines.append(f"| {title} | " + " | ".join(cells) + " |")
    alone = [f"- {name} of the samples: {metrics['samples'][name]:.1f}" for name in columns if name not in shared]
    for name, value in metrics.get("neutral_to_smiling", {}).items():
        alone.append(f"- {name} x1e3 between neutral and smiling test heads, for comparison: {1000 * value:.2f}")
    for name, value in metrics["copies"].items():
        alone.append(f"- {name}: squared error to the nearest training image, in [-1, 1]: {value:.4f}")
    counts = dict(images=params.images, judged=min(JUDGED_IMAGES, params.images), subsets=KID_SUBSETS)
    notes = NOTES.format(k=NEIGHBOURS, **counts)
    return "\n".join([*lines, "", *alone, "", notes])


def _cell(name: str, value: float | None) -> str:
    if value is None:
        return "-"
    scale, digits = next(SCALES[kind] for kind in SCALES if name.startswith(kind))
    return f"{scale * value:.{digits}f}"
