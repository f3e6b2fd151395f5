"""Segmentation of photographs: mIoU on FASSEG's test faces by number of labels, compared with London's labels.

    editgan import fasseg FASSEG --into data/pictures/fasseg
    python benchmarks/fasseg.py data/pictures/fasseg [--labels 4 8 16 20] [--draws 5] [--picture fasseg.png]

Test faces of people who are also in the training half (MobileFaceNet cosine of 0.5 or more) are left out and counted.
A draw takes random faces of the training half, embedded as in stage `encoder`; a smaller set of a draw is the start of
a larger one. In FASSEG, hair and brows are one class; mouth and eyes are one class each.

The second table compares both kinds of labels on the classes that both have: nose, mouth (lips and interior) and eyes.
"London" is the segmentation in OUTPUTS, on the faces of OUTPUTS/data/test.zip and on FASSEG's; "FASSEG" is the first
draw of 16.
"""

import io
from pathlib import Path

import numpy as np
import torch
from labels import drawn, learned
from measuring import Trained, header, row, trained_command_line
from PIL import Image
from torch import Tensor

from editgan.data.archive import load_classes
from editgan.data.reading import read_one
from editgan.data.sources import folder
from editgan.images import colourize, labelled_grid, save_png
from editgan.judges.quality import cosines, measure
from editgan.segmentation.metrics import segmentation_scores
from editgan.segmentation.predict import predict_masks

SAME_PERSON = 0.5  # cosine from which on two faces are the same person
COMPARED = 16  # number of labels for the second table
SHOWN = 8  # faces in the picture
# Classes of FASSEG and the parts, drawn from London's points, that they consist of.
SHARED = {"nose": ["nose"], "mouth": ["upper_lip", "lower_lip", "mouth_interior"], "eyes": ["left_eye", "right_eye"]}


def read_half(root: Path, half: str, side: int) -> tuple[Tensor, Tensor]:
    """Pictures  # uint8 [N, 3, side, side]  and masks  # uint8 [N, side, side]  of the training or the test half."""
    listing = folder.list_pictures(root)
    items = [item for item in listing.items if item.partition == half]
    read = [read_one(item, root=root, resolution=side, classes=listing.classes)[:2] for item in items]
    images, masks = ([np.array(Image.open(io.BytesIO(png))) for png in pngs] for pngs in zip(*read, strict=True))
    return torch.as_tensor(np.stack(images)).permute(0, 3, 1, 2), torch.as_tensor(np.stack(masks))


def shared(masks: Tensor, names: list[str]) -> Tensor:
    """Labels with these class names -> 1 + index in SHARED, or 0."""
    found = torch.zeros_like(masks)
    for label, (name, made_of) in enumerate(SHARED.items(), start=1):
        parts = [names.index(part) for part in {name, *made_of} if part in names]
        found[torch.isin(masks, torch.tensor(parts, dtype=masks.dtype))] = label
    return found


def main() -> None:
    parser = trained_command_line(__doc__)
    parser.add_argument("faces", type=Path, help="folder of the imported FASSEG")
    parser.add_argument("--labels", nargs="+", type=int, default=[4, 8, COMPARED, 20])
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--picture", type=Path, default=Path("fasseg.png"))
    options = parser.parse_args()
    run = Trained(options)
    editor, classes = run.editor, load_classes(options.faces / "classes.json")
    names, side = classes.names, editor.G.img_resolution
    (images, masks), (tests, truth) = (read_half(options.faces, half, side) for half in ("train", "test"))
    known, seen = (measure(run.network("mobilefacenet"), faces, device=run.device) for faces in (images, tests))
    new = (cosines(seen, known).amax(1) < SAME_PERSON).nonzero().flatten()
    print(f"{len(tests) - len(new)} of {len(tests)} test faces are left out: the training half has the same people")
    tests, truth = tests[new], truth[new]
    w_plus, of_tests = run.embedded(images), run.embedded(tests)
    draws, compared = drawn(run, "fasseg", len(images), options.draws), None
    header("labels", "draws", "mIoU, mean", "spread", *names)
    for count in options.labels:
        found = []
        for order in draws if count < len(images) else draws[:1]:
            S = learned(run, w_plus[order[:count]], masks[order[:count]], names)
            found.append(segmentation_scores(predict_masks(editor.G, S, of_tests), truth, names))
            if count == COMPARED and compared is None:
                compared = S
        values = np.array([scores.miou for scores in found])
        spread = f"{values.std(ddof=1):.3f}" if len(values) > 1 else "–"
        each = (np.mean([scores.iou.get(name, float("nan")) for scores in found]) for name in names)
        row(count, len(values), f"{values.mean():.3f}", spread, *(f"{value:.3f}" for value in each))
    if compared is None:
        return
    people, theirs = run.latents("test"), run.editor.class_names
    judged = {
        "FASSEG": (of_tests, shared(truth, names)),
        "London": (people, shared(run.masks("test", range(len(people))), theirs)),
    }
    header("learned from", "judged on", "faces", *SHARED, "mean")
    for source, S, its_names in (("FASSEG", compared, names), ("London", editor.S, theirs)):
        for where, (latents, wanted) in judged.items():
            predicted = shared(predict_masks(editor.G, S, latents), its_names)
            iou = segmentation_scores(predicted, wanted, ["rest", *SHARED]).iou
            each = [iou[name] for name in SHARED]
            row(source, where, len(wanted), *(f"{value:.3f}" for value in (*each, sum(each) / len(each))))
    palette = torch.as_tensor(classes.palette)
    editor.set_latents(of_tests)
    segmented = predict_masks(editor.G, compared, of_tests)
    columns = {"photo": tests, "embedded": editor.render(editor.w_plus), "truth": colourize(truth, palette)}
    columns[f"{COMPARED} labels"] = colourize(segmented, palette)
    grid = labelled_grid({caption: stack[:SHOWN] for caption, stack in columns.items()})
    print(f"\n{save_png(options.picture, grid)}: photos, embeddings, masks by hand and predicted masks")


if __name__ == "__main__":
    main()
