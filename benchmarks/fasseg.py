"""Segmentation of photographs: mIoU on FASSEG's test faces by number of labelled faces, compared with London's labels.

    editgan import fasseg FASSEG --into data/pictures/fasseg
    python benchmarks/fasseg.py data/pictures/fasseg [--outputs outputs] [--labels 4 8 16 20] [--draws 5]

Test faces of people who are also in the training half (MobileFaceNet cosine of 0.5 or more) are left out and counted.
All faces are embedded as in stage `encoder`. A draw takes random faces of the training half; a smaller set of a draw is
the start of a larger one. Ensemble and training use the params. In FASSEG, hair and brows are one class; mouth and eyes
are one class each.

The second table compares both kinds of labels on the classes that both have: nose, mouth (lips and interior) and eyes.
"London" is the segmentation in OUTPUTS, evaluated on the faces of OUTPUTS/data/test.zip and on FASSEG's; "FASSEG" is
the first draw of 16.
"""

import argparse
import io
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from editgan.assets.load import load_network
from editgan.config import load_params
from editgan.data.archive import load_classes, load_masks
from editgan.data.reading import read_one
from editgan.data.sources import folder
from editgan.editor.editor import Editor
from editgan.encoder.encoder import load_latents
from editgan.images import colourize, labelled_grid, save_png
from editgan.judges.quality import cosines, measure
from editgan.segmentation.metrics import segmentation_scores
from editgan.segmentation.predict import features_of, segment
from editgan.segmentation.training import train_ensemble
from editgan.training import generator_for

SAME_PERSON = 0.5  # cosine
SHARED = ("nose", "mouth", "eyes")
SHOWN = 8  # faces in the picture
# Of the parts drawn from London's points, those that make up a class of FASSEG.
MADE_OF = {"nose": ["nose"], "mouth": ["upper_lip", "lower_lip", "mouth_interior"], "eyes": ["left_eye", "right_eye"]}


def read_half(root: Path, half: str, side: int) -> tuple[Tensor, Tensor]:
    """Pictures  # uint8 [N, 3, side, side]  and masks  # uint8 [N, side, side]  of the training or the test half."""
    listing = folder.list_pictures(root)
    items = [item for item in listing.items if item.partition == half]
    read = [read_one(item, root=root, resolution=side, classes=listing.classes)[:2] for item in items]
    images, masks = ([np.array(Image.open(io.BytesIO(png))) for png in pngs] for pngs in zip(*read, strict=True))
    return torch.as_tensor(np.stack(images)).permute(0, 3, 1, 2), torch.as_tensor(np.stack(masks))


def shared(masks: Tensor, names: list[str]) -> Tensor:
    """Labels of any names -> 1 + index in SHARED, 0 for the rest."""
    found = torch.zeros_like(masks)
    for label, name in enumerate(SHARED, start=1):
        parts = [names.index(part) for part in (name, *MADE_OF[name]) if part in names]
        found[torch.isin(masks, torch.tensor(parts, dtype=masks.dtype))] = label
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("faces", type=Path, help="FASSEG, imported")
    parser.add_argument("--outputs", type=Path, default=Path("outputs"), help="folder with the trained models")
    parser.add_argument("--params", type=Path, default=Path("params.yaml"))
    parser.add_argument("--labels", nargs="+", type=int, default=[4, 8, 16, 20])
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--picture", type=Path, default=Path("fasseg.png"))
    options = parser.parse_args()
    params, data = load_params(options.params), options.outputs / "data"
    editor = Editor.load(options.outputs, params.runtime.device)
    names, side = load_classes(options.faces / "classes.json").names, editor.G.img_resolution
    (images, masks), (tests, truth) = (read_half(options.faces, half, side) for half in ("train", "test"))
    identity = load_network("mobilefacenet", options.outputs / "assets")
    known, seen = (measure(identity, faces, device=editor.device, batch=50) for faces in (images, tests))
    new = (cosines(seen, known).amax(1) < SAME_PERSON).nonzero().flatten()
    print(f"{len(tests) - len(new)} of {len(tests)} test faces are in the training half, too, and left out")
    tests, truth = tests[new], truth[new]
    embedding = params.encoder
    steps, rate = embedding.inversion_steps, embedding.inversion_lr
    latents = []
    for faces in (images, tests):
        editor.set_image(faces, steps=steps, lr=rate)
        latents.append(editor.w_plus)
    london = load_classes(data / "classes.json").names
    draws = [
        torch.randperm(len(images), generator=generator_for(params.seed, "fasseg", d)) for d in range(options.draws)
    ]
    recipe = params.segmentation.model_dump(include={"members", "epochs", "lr"})
    first = None
    print(f"\n| labels | draws | mIoU, mean | spread | {' | '.join(names)} |\n|---:|{'---:|' * (3 + len(names))}")
    for labels in options.labels:
        found = []
        for draw in draws if labels < len(images) else draws[:1]:
            chosen = draw[:labels]
            _, features = features_of(editor.G, latents[0][chosen], editor.device)
            labelled = masks[chosen].to(editor.device)
            ensemble = train_ensemble(features, labelled, class_names=names, seed=params.seed, **recipe)
            predicted, *_ = segment(editor.G, ensemble, latents[1], editor.device)
            found.append(segmentation_scores(predicted, truth, names))
            if labels == 16 and first is None:
                first = ensemble, predicted
        values = np.array([scores.miou for scores in found])
        spread = f"{values.std(ddof=1):.3f}" if len(values) > 1 else "–"
        each = [f"{np.mean([scores.iou.get(name, float('nan')) for scores in found]):.3f}" for name in names]
        print(f"| {labels} | {len(values)} | {values.mean():.3f} | {spread} | {' | '.join(each)} |", flush=True)
    if first is None:
        return
    people = load_latents(options.outputs / "encoder" / "latents.safetensors")["test"]
    theirs = torch.as_tensor(load_masks(data / "test.zip", range(len(people))))
    judged = {"FASSEG": (latents[1], shared(truth, names)), "London": (people, shared(theirs, london))}
    print(f"\n| learned from | judged on | faces | {' | '.join(SHARED)} | mean |\n|---|---|---:|{'---:|' * 4}")
    for source, S, classes in (("FASSEG", first[0], names), ("London", editor.S, london)):
        for where, (w_plus, wanted) in judged.items():
            predicted, *_ = segment(editor.G, S, w_plus, editor.device)
            scores = segmentation_scores(shared(predicted, classes), wanted, ["rest", *SHARED])
            each = [scores.iou[name] for name in SHARED]
            cells = " | ".join(f"{value:.3f}" for value in (*each, sum(each) / len(each)))
            print(f"| {source}, 16 faces | {where} | {len(wanted)} | {cells} |", flush=True)
    palette = torch.as_tensor(load_classes(options.faces / "classes.json").palette)
    editor.set_latents(latents[1])
    columns = {
        "photo": tests, "embedded": editor.render(editor.w_plus), "truth": colourize(truth, palette),
        "16 labels": colourize(first[1], palette),
    }  # fmt: skip
    grid = labelled_grid({caption: stack[:SHOWN] for caption, stack in columns.items()})
    print(f"\n{save_png(options.picture, grid)}: photos, their embeddings, masks by hand and as segmented")


if __name__ == "__main__":
    main()
