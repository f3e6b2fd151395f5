"""Smile edits of many pictures that stage `benchmark` does not use: accuracy, identity, KID and FID of every method.

    python benchmarks/smile.py [--heads 400] [--kept FILE.safetensors] [--picture FILE.png]
    python benchmarks/smile.py --training FOLDER --heads 4000 [--refined 400]

Without `--training`, for photographs whose test split is too small for KID and FID: one neutral picture of each of the
first people of the reference split, which was not used for training or choosing settings. All pictures of the other
people are the reference for KID and FID.

With `--training`, the paper's "smile edit 4k" (supplement): the first neutral heads of the training set, from a folder
with train.zip and train_labels.zip. Generator, encoder and MaskGAN were trained on these heads; in the paper only
MaskGAN has this advantage. Half of them trained the smile judge, so only the two pretrained networks judge smiles.

Brackets: 95 % bootstrap intervals over pictures. KID and FID use EfficientNet-Lite0 features, identity is
MobileFaceNet's cosine to the photo. 400 heads take ten minutes on two cores without refinement; 4,000 need a GPU.
"""

from collections.abc import Callable
from pathlib import Path

import torch
from measuring import Trained, header, row, trained_command_line
from torch import Tensor

from editgan.benchmark.titles import title_of
from editgan.data.archive import load_attributes, load_images, load_masks
from editgan.images import labelled_grid, read_mask, save_png
from editgan.judges.load import SMILE_JUDGES, load_judges
from editgan.judges.quality import SMILE_THRESHOLD, cosines, measure
from editgan.methods.distillation.pairs import smile
from editgan.methods.distillation.pix2pixhd import GlobalGenerator
from editgan.methods.maskgan.networks import MaskGAN, edit, smile_masks
from editgan.methods.registry import load_methods
from editgan.methods.smile import DISTILLATION, INPUT, MASKGAN, PLUS, RECONSTRUCTION, at_rest, refined_name
from editgan.metrics import (
    KID_SUBSETS,
    RESAMPLES,
    bootstrap_interval,
    features_to_statistics,
    frechet_distance,
    kernel_distance,
    kernel_distance_spread,
)
from editgan.scoring.rows import BATCH
from editgan.weights import load_module

SHOWN = 10  # people in the picture
NETWORK = "efflite0"


def neutral_people(attributes: list[dict], heads: int) -> tuple[list[int], list[int]]:
    """Indices of one neutral picture of each of the first `heads` people, and of all pictures of the other people."""
    first: dict[int, int] = {}
    for index, picture in enumerate(attributes):
        if picture["smile"] == 0:
            first.setdefault(picture["identity"], index)
    people = dict(list(first.items())[:heads])
    return list(people.values()), [i for i, picture in enumerate(attributes) if picture["identity"] not in people]


def edited(run: Trained, photos: Tensor, w_plus: Tensor, count: int) -> dict[str, tuple[float | None, Tensor]]:
    """(strength, pictures) by method; refined EditGAN+ for the first `count` photos only."""
    editor, scoring, section = run.editor, run.params.scoring, run.params.editing
    vectors, methods, renderer = load_methods(
        run.outputs, vector=scoring.vector, plus=scoring.plus_vector, device=run.device
    )
    chosen = run.chosen()
    made = {INPUT: (None, photos), RECONSTRUCTION: (None, editor.render(w_plus))}
    for name, method in methods.items():
        made[name] = chosen[name], renderer.pictures(method(w_plus)(chosen[name]))
    if count:
        editor.set_latents(w_plus[:count])
        how = dict(refine=section.refine.steps, lr=section.refine.lr, weights=section.weights)
        refined = editor.apply({vectors[PLUS].name: chosen[PLUS]}, **how)
        made[refined_name(section.refine.steps)] = chosen[PLUS], refined.images
    network = load_module(run.outputs / DISTILLATION / "generator.safetensors", GlobalGenerator).to(run.device)
    return made | {DISTILLATION: (None, smile(network, photos, batch=BATCH))}


def by_maskgan(run: Trained, photos: Tensor, masks: Tensor) -> Tensor:
    """Photos edited by MaskGAN, from their exact masks.  # uint8 [N, 3, H, W]"""
    network = load_module(run.outputs / MASKGAN / "generator.safetensors", MaskGAN).to(run.device)
    names = run.editor.class_names
    donor = read_mask(run.outputs / MASKGAN / "donor.png", resolution=photos.shape[-1], classes=len(names))
    return edit(network, photos, masks, smile_masks(masks, donor, names), batch=BATCH)


def main() -> None:
    parser = trained_command_line(__doc__)
    parser.add_argument("--training", type=Path, help="folder of the training heads")
    parser.add_argument("--heads", type=int, default=400)
    parser.add_argument("--refined", type=int, help="number of photos for refinement (default: all, 0: none)")
    parser.add_argument("--kept", type=Path, default=Path("smile.safetensors"), help="file that stores the embeddings")
    parser.add_argument("--picture", type=Path, help="output file of the first pictures")
    options = parser.parse_args()
    run = Trained(options)
    if options.training is None:
        path = run.data / "reference.zip"
        chosen, others = neutral_people(load_attributes(path), options.heads)
    else:
        path, others = options.training / "train.zip", None
        attributes = load_attributes(options.training / "train_labels.zip")
        chosen = [index for index, head in enumerate(attributes) if at_rest(head)][: options.heads]
    if len(chosen) < options.heads:
        parser.error(f"--heads {options.heads}: {path} has {len(chosen)} neutral ones")
    photos = torch.as_tensor(load_images(path, chosen))
    count = len(photos) if options.refined is None else min(options.refined, len(photos))
    made = edited(run, photos, run.embedded(photos, options.kept), count)
    if options.training is not None:
        masks = torch.as_tensor(load_masks(options.training / "train_labels.zip", chosen))
        made[MASKGAN] = None, by_maskgan(run, photos, masks)

    judges = load_judges(run.outputs / "assets", run.outputs / "judges", run.device)
    names = SMILE_JUDGES if options.training is None else SMILE_JUDGES[1:]

    def seen_by(network: Callable[[Tensor], Tensor], pictures: Tensor) -> Tensor:
        return measure(network, pictures, device=run.device)

    def bracketed(values: Tensor, digits: int) -> str:
        low, high = bootstrap_interval(values, resamples=RESAMPLES, seed=run.params.seed)
        return f"{values.mean():.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"

    known = seen_by(judges.identity["mobilefacenet"], photos)
    reference = seen_by(judges.features[NETWORK], run.images("reference", others))
    statistics = features_to_statistics(reference)
    titles = (*(f"% smiling, {name}" for name in names), "identity, mobilefacenet")
    header("", "pictures", "strength", *titles, f"KID{len(photos)}_{NETWORK} x1e3", f"FID{len(photos)}_{NETWORK}")
    for name, (strength, pictures) in made.items():
        cells = [title_of(name), len(pictures), "–" if strength is None else f"{strength:g}"]
        for judge in names:
            smiling = seen_by(judges.smile[judge].smile, pictures) >= SMILE_THRESHOLD
            cells.append(bracketed(100.0 * smiling.double(), 1))
        mine = seen_by(judges.identity["mobilefacenet"], pictures)
        cells.append(bracketed(cosines(mine, known[: len(pictures)]).diagonal(), 3))
        features = seen_by(judges.features[NETWORK], pictures)
        kid = kernel_distance(features, reference, subsets=KID_SUBSETS, seed=run.params.seed)
        low, high = kernel_distance_spread(features, reference, resamples=RESAMPLES, seed=run.params.seed)
        cells.append(f"{1000 * kid:.1f} [{1000 * (kid + low):.1f}, {1000 * (kid + high):.1f}]")
        row(*cells, f"{frechet_distance(features_to_statistics(features), statistics):.1f}")
    if options.picture is not None:
        grid = labelled_grid({title_of(name): pictures[:SHOWN] for name, (_, pictures) in made.items()})
        print(f"\n{save_png(options.picture, grid)}: the first {SHOWN} pictures")


if __name__ == "__main__":
    main()
