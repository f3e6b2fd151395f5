"""The paper's "smile edit 4k" (supplement): the smile benchmark on heads of the training set, with the trained models.

    python benchmarks/smile4k.py [--outputs outputs] [--heads 4000] [--refined 4000]

The first neutral heads of the training set are embedded as in stage `encoder` (encoder, then optimisation with
`params.yaml`; stored in --work, so an interrupted run resumes). Every method edits them at the strength that stage
`scoring` chose on validation heads. Generator, encoder and MaskGAN were trained on these heads; in the paper only
MaskGAN has this advantage. Half of the heads were used to train the smile judge of the main benchmark, so only the two
pretrained networks judge smiles here. KID uses EfficientNet-Lite0 features and the reference heads, which are other
people; identity is MobileFaceNet's cosine to the photo.

400 heads take about ten minutes on two cores without refinement, mostly for embedding; 4,000 heads need a GPU.
"""

import argparse
import contextlib
import json
from pathlib import Path

import torch
from torch import Tensor

from editgan.config import Params, load_params
from editgan.data.archive import load_attributes, load_images, load_masks
from editgan.editing.edits import at_rest
from editgan.editor.editor import Editor
from editgan.encoder.inversion import invert
from editgan.errors import UserError
from editgan.images import read_mask, to_float
from editgan.judges import Judges, load_judges
from editgan.judges.quality import SMILE_THRESHOLD, cosines, measure
from editgan.methods.distillation.pairs import smile
from editgan.methods.distillation.pix2pixhd import GlobalGenerator
from editgan.methods.maskgan.networks import MaskGAN, edit, smile_masks
from editgan.methods.registry import load_methods
from editgan.methods.smile import DISTILLATION, EDITGAN, INPUT, MASKGAN, RECONSTRUCTION, refined_name
from editgan.metrics import kernel_distance
from editgan.scoring.rows import BATCH
from editgan.weights import load_module, load_tensors, save_tensors, sha256

EMBEDDED = 80  # heads between two saves
INDEPENDENT = ("face_api_expression", "fer")  # smile judges that no head of the data set has trained


def embedded(editor: Editor, photos: Tensor, params: Params, work: Path) -> Tensor:
    """w_plus [N, num_ws, w_dim] of photos, uint8 [N, 3, H, W]; finished parts wait in `work`."""
    section, parts = params.encoder, []
    for start in range(0, len(photos), EMBEDDED):
        path = work / f"{start:05d}.safetensors"
        if not path.exists():
            part = to_float(photos[start : start + EMBEDDED]).to(editor.device)
            found = invert(
                editor.G, editor.E, editor.lpips_vgg, part, steps=section.inversion_steps,
                lr=section.inversion_lr,
            )  # fmt: skip
            save_tensors(path, {"w_plus": found.cpu()})
            print(f"embedded {start + len(part)} of {len(photos)}", flush=True)
        parts.append(load_tensors(path)[0]["w_plus"])
    return torch.cat(parts)


def row(name: str, pictures: Tensor, kept: Tensor, references: Tensor, judges: Judges, options: dict) -> str:
    """One line of the table. pictures: uint8 [N, 3, H, W]; kept: identity features of the photos [N, D]."""
    cells = []
    for judge in INDEPENDENT:
        said = measure(judges.smile[judge].smile, pictures, **options)
        cells.append(f"{(said >= SMILE_THRESHOLD).double().mean():.1%}")
    same = cosines(measure(judges.identity, pictures, **options), kept).diagonal().mean()
    kid = kernel_distance(measure(judges.features, pictures, **options), references)
    return f"| {name} | {' | '.join(cells)} | {same:.3f} | {1000 * kid:.1f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--outputs", type=Path, default=Path("outputs"), help="folder with the trained models")
    parser.add_argument("--params", type=Path, default=Path("params.yaml"))
    parser.add_argument("--heads", type=int, default=4000)
    parser.add_argument("--refined", type=int, help="the first so many are refined, too (default: all, 0: none)")
    parser.add_argument("--work", type=Path, default=Path("work/smile4k"), help="where embedded heads are kept")
    options = parser.parse_args()
    outputs, params, data = options.outputs, load_params(options.params), options.outputs / "data"
    editor, scoring = Editor.load(outputs), params.scoring
    attributes = load_attributes(data / "train_labels.zip")
    neutral = [index for index, head in enumerate(attributes) if at_rest(head)][: options.heads]
    if len(neutral) < options.heads:
        raise UserError(f"--heads {options.heads}: the training set holds {len(neutral)} neutral heads")
    photos = torch.as_tensor(load_images(data / "train.zip", neutral))
    models = [outputs / "generator" / "G_ema.safetensors", outputs / "encoder" / "E.safetensors"]
    work = options.work / "-".join(sha256(path)[:8] for path in (*models, options.params))
    w_plus = embedded(editor, photos, params, work)

    vectors, methods, renderer = load_methods(
        outputs, vector=scoring.vector, plus=scoring.plus_vector, batch=BATCH, device=editor.device,
    )  # fmt: skip
    chosen = json.loads((outputs / "scoring" / "metrics.json").read_text())["chosen"]
    judges = load_judges(outputs / "assets", outputs / "judges", editor.device)
    measured = dict(device=editor.device, batch=params.benchmark.batch)
    kept = measure(judges.identity, photos, **measured)
    references = measure(judges.features, torch.as_tensor(load_images(data / "reference.zip")), **measured)
    print(f"\n| {len(photos)} training heads | smiling, face-api | fer | identity | KID{len(photos)}_efflite0 x1e3 |")
    print("|---|---:|---:|---:|---:|")

    def show(name: str, pictures: Tensor) -> None:
        print(row(name, pictures, kept[: len(pictures)], references, judges, measured), flush=True)

    show(INPUT, photos)
    show(RECONSTRUCTION, renderer.pictures(contextlib.nullcontext(w_plus)))
    for name, method in methods.items():
        show(name, renderer.pictures(method(w_plus)(chosen[name]["strength"])))
    count = len(photos) if options.refined is None else min(options.refined, len(photos))
    if count:
        editor.set_latents(w_plus[:count])
        steps = params.editing.refine.steps
        made = editor.apply({vectors[EDITGAN].name: chosen[EDITGAN]["strength"]}, refine=steps)
        show(f"{refined_name(steps)}, {count} heads", made.images)
    distilled = load_module(outputs / DISTILLATION / "generator.safetensors", GlobalGenerator).to(editor.device)
    show(DISTILLATION, smile(distilled, photos, batch=BATCH))
    maskgan = load_module(outputs / MASKGAN / "generator.safetensors", MaskGAN).to(editor.device)
    masks = torch.as_tensor(load_masks(data / "train_labels.zip", neutral))
    donor = read_mask(outputs / MASKGAN / "donor.png", resolution=params.resolution, classes=len(editor.class_names))
    wanted = smile_masks(masks, donor, editor.class_names)
    show(MASKGAN, edit(maskgan, photos, masks, wanted, batch=BATCH))


if __name__ == "__main__":
    main()
