"""The smile on many people with one picture each: accuracy, identity, KID and FID on the reference split.

    python benchmarks/neutral_people.py [--outputs outputs] [--heads 400] [--latents FILE.safetensors]

For photographs whose test split is too small for KID and FID (`params/photos64.yaml`: 46 people). Each of the first
`--heads` people of outputs/data/reference.zip with a neutral picture (smile 0 by label) contributes one. The pictures
are embedded as in stage `encoder`, edited with every method at the strength that stage `scoring` chose on validation
pictures, and judged. They were not used for training or for any choice. `--latents` stores the embeddings, so an
interrupted run resumes. All pictures of the other people are the reference of KID and FID (EfficientNet-Lite0
features). Brackets: 95 % bootstrap intervals over people. There is no ground truth, since no one is pictured smiling
with all else equal.
"""

import argparse
import json
from hashlib import sha256
from pathlib import Path

import torch
from torch import Tensor

from editgan.assets.load import load_network
from editgan.config import load_params
from editgan.data.archive import load_attributes, load_images
from editgan.editing.refine import refine
from editgan.editor.editor import Editor
from editgan.encoder.params import EncoderParams
from editgan.images import labelled_grid, save_png
from editgan.judges import SMILE_JUDGES, load_judges
from editgan.judges.quality import SMILE_THRESHOLD, cosines, measure
from editgan.methods.distillation.pairs import smile
from editgan.methods.distillation.pix2pixhd import GlobalGenerator
from editgan.methods.registry import load_methods
from editgan.methods.smile import DISTILLATION, EDITGAN, refined_name
from editgan.metrics import (
    bootstrap_interval,
    features_to_statistics,
    frechet_distance,
    kernel_distance,
    kernel_distance_spread,
)
from editgan.report.titles import title_of
from editgan.scoring.rows import BATCH
from editgan.weights import load_module, load_tensors, save_tensors

SHOWN = 10  # people in the picture
EMBEDDED = 16  # people between two saves
NETWORK = "efflite0"


def neutral_people(attributes: list[dict], heads: int) -> tuple[list[int], list[int]]:
    """Indices of one neutral picture each of so many people, and of all pictures of the others."""
    first: dict[int, int] = {}
    for index, row in enumerate(attributes):
        if row["smile"] == 0:
            first.setdefault(row["identity"], index)
    people = dict(list(first.items())[:heads])
    return list(people.values()), [i for i, row in enumerate(attributes) if row["identity"] not in people]


def embedded(editor: Editor, photos: Tensor, params: EncoderParams, path: Path) -> Tensor:
    """Latents of photos [N, num_ws, w_dim]; those of these photos that the file holds are not made again."""
    made_by = sha256(
        photos.numpy().tobytes() + next(editor.G.parameters()).detach().cpu().numpy().tobytes()
    ).hexdigest()
    kept, of = load_tensors(path) if path.exists() else ({}, {})
    kept = kept if of.get("made_by") == made_by else {}
    for start in range(0, len(photos), EMBEDDED):
        if str(start) in kept:
            continue
        editor.set_image(
            photos[start : start + EMBEDDED],
            steps=params.inversion_steps,
            lr=params.inversion_lr,
        )
        kept[str(start)] = editor.w_plus.cpu()
        save_tensors(path, kept, {"made_by": made_by})
        print(f"{min(start + EMBEDDED, len(photos))} of {len(photos)} people embedded", flush=True)
    return torch.cat([kept[str(start)] for start in range(0, len(photos), EMBEDDED)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--outputs", type=Path, default=Path("outputs"), help="folder with what the stages made")
    parser.add_argument("--params", type=Path, default=Path("params.yaml"))
    parser.add_argument("--heads", type=int, default=400)
    parser.add_argument("--latents", type=Path, default=Path("neutral_people.safetensors"))
    parser.add_argument("--picture", type=Path, help="keep a picture of the first of them")
    options = parser.parse_args()
    params, outputs = load_params(options.params), options.outputs
    editor = Editor.load(outputs, params.runtime.device)
    path = outputs / "data" / "reference.zip"
    chosen, others = neutral_people(load_attributes(path), options.heads)
    if len(chosen) < options.heads:
        parser.error(f"--heads {options.heads}: {len(chosen)} people of {path} have a neutral picture")
    photos, reference = torch.as_tensor(load_images(path, chosen)), torch.as_tensor(load_images(path, others))
    editor.set_latents(embedded(editor, photos, params.encoder, options.latents))
    rows = {"input": photos, "reconstruction": editor.render(editor.w_plus)}
    print(f"{len(chosen)} people embedded; {len(others)} pictures of others are the reference", flush=True)
    w_plus, batch = editor.w_plus, BATCH
    vectors, methods, renderer = load_methods(
        outputs, vector=params.scoring.vector, plus=params.scoring.plus_vector, batch=batch, device=editor.device
    )
    sweep = json.loads((outputs / "scoring" / "metrics.json").read_text())["chosen"]
    strengths = {name: sweep[name]["strength"] for name in methods}
    rows |= {name: renderer.pictures(method(w_plus)(strengths[name])) for name, method in methods.items()}
    section = params.editing.refine
    refined = refine(
        editor.G,
        editor.S,
        editor.lpips_vgg,
        w_plus,
        vectors[EDITGAN],
        strengths[EDITGAN],
        steps=section.steps,
        lr=section.lr,
        weights=section.weights,
        batch=batch,
    )
    rows[refined_name(section.steps)] = editor.render(refined)
    distilled = load_module(outputs / DISTILLATION / "generator.safetensors", GlobalGenerator).to(editor.device)
    rows[DISTILLATION] = smile(distilled, photos, batch=batch)

    judges = load_judges(outputs / "assets", outputs / "judges", editor.device)
    identity, features = (
        load_network(name, outputs / "assets").to(editor.device) for name in ("mobilefacenet", NETWORK)
    )
    known = measure(identity, photos, device=editor.device)
    theirs = measure(features, reference, device=editor.device)
    statistics, section = features_to_statistics(theirs), params.benchmark
    titles = [*(f"% smiling, {judge}" for judge in SMILE_JUDGES), "identity, mobilefacenet"]
    titles += [f"KID{len(photos)}_{NETWORK} x1e3", f"FID{len(photos)}_{NETWORK}"]
    print(f"\n| | strength | {' | '.join(titles)} |\n|---|---:|{'---:|' * len(titles)}")
    for name, pictures in rows.items():
        said = 100.0 * (measure(judges.smile_probabilities, pictures, device=editor.device) >= SMILE_THRESHOLD).double()
        same = cosines(measure(identity, pictures, device=editor.device), known).diagonal()
        seen, cells = measure(features, pictures, device=editor.device), []
        for values, digits in (*((said[:, column], 1) for column in range(said.shape[1])), (same, 3)):
            low, high = bootstrap_interval(values, resamples=section.bootstrap, seed=params.seed)
            cells.append(f"{values.mean():.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]")
        kid = kernel_distance(seen, theirs, subsets=section.kid_subsets, seed=params.seed)
        low, high = kernel_distance_spread(seen, theirs, resamples=section.bootstrap, seed=params.seed)
        cells.append(f"{1000 * kid:.1f} [{1000 * (kid + low):.1f}, {1000 * (kid + high):.1f}]")
        cells.append(f"{frechet_distance(features_to_statistics(seen), statistics):.1f}")
        strength = strengths.get(name, strengths[EDITGAN] if name.startswith(EDITGAN) else None)
        shown = "–" if strength is None else f"{strength:g}"
        print(f"| {title_of(name)} | {shown} | {' | '.join(cells)} |", flush=True)
    if options.picture is not None:
        grid = labelled_grid({title_of(name): pictures[:SHOWN] for name, pictures in rows.items()})
        print(f"\n{save_png(options.picture, grid)}: the first {SHOWN} people")


if __name__ == "__main__":
    main()
