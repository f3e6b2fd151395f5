"""Effect of each ingredient of EditGAN+ on the smile, on validation heads, with the trained models.

    python benchmarks/ablations.py [--outputs outputs] [--heads 200] [--tuned 100] [--strengths 1.5 2.5 4]

Every row is EditGAN (the vector of one head, in the embedding of stage `encoder`) with one change, or with several
where stated. EditGAN+ is the mean of eight heads. In rows where the segmentation determines the strength per head (the
smallest one at which it predicts a given share of the head's edited mask), the columns are shares instead of strengths.
Tuning needs a copy of the generator for each head, so it uses fewer heads and one strength: EditGAN's second one, and
for InterFaceGAN and LocalEditing, which are tuned too, the one chosen by stage `scoring`.

smiling: share that the guide calls smiling (the judges of the benchmark choose nothing). identity: cosine of
MobileFaceNet's ArcFace features to the photo. leak: squared error outside the mouth, to the reconstruction, or to the
photo for pasted pictures. The heads are neutral and no vector was learned from them; heads that stage `encoder` did not
embed are embedded first with its settings.
"""

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from edits import labelled_heads, targets_of
from torch import Tensor

from editgan.assets.load import load_network
from editgan.config import Params, load_params
from editgan.data.archive import load_attributes, load_images
from editgan.data.paste import paste_back
from editgan.editing.edits import at_rest, load_edits
from editgan.editing.masks import edit_region
from editgan.editing.optimize import edit
from editgan.editing.vectors import EditingVector, apply_vector
from editgan.editor.editor import Editor
from editgan.encoder.encoder import load_latents
from editgan.encoder.inversion import invert
from editgan.generator.generator import Generator
from editgan.images import to_float
from editgan.judges import load_guide
from editgan.judges.quality import SMILE_THRESHOLD, cosines, measure
from editgan.methods.localediting.channels import convolutions, swapped_styles
from editgan.metrics import outside_error
from editgan.segmentation.ensemble import SegmentationEnsemble
from editgan.segmentation.predict import predict_masks
from editgan.weights import load_tensors

SHARES = (0.3, 0.5, 0.7)  # of the mask that a head is to follow
EIGHT = "smile_of_8"


def followed_at(
    G: Generator,
    S: SegmentationEnsemble,
    w_plus: Tensor,
    vector: EditingVector,
    strengths: Sequence[float],
    before: Tensor,
    wanted: Tensor,
) -> Tensor:
    """Share of the repainted pixels that are seen as wanted at each strength; 1 where nothing is to be repainted.

    Args:
        w_plus: heads  # [N, num_ws, w_dim]
        before, wanted: their masks, and what the edit makes of them, labels  # uint8 [N, H, W]
    Returns:
        [S, N]
    """
    painted = before != wanted
    count = painted.sum((1, 2))  # [N]
    rows = []
    for strength in strengths:
        seen = predict_masks(G, S, apply_vector(w_plus, vector, strength))
        share = ((seen == wanted) & painted).sum((1, 2)) / count.clamp(min=1)
        rows.append(torch.where(count > 0, share, 1.0))
    return torch.stack(rows)


def least_strengths(followed: Tensor, strengths: Sequence[float], share: float) -> Tensor:
    """For each head the least of rising strengths that follows the share, the strongest where none does.

    Args:
        followed: [S, N]
    Returns:
        [N]
    """
    enough = followed >= share  # [S, N]
    enough[-1] = True
    return torch.tensor(strengths, dtype=torch.float32)[enough.float().argmax(0)]


def learned(
    editor: Editor, w_plus: Tensor, params: Params, donors: dict, described, *, free: bool, identity: float, net
) -> Tensor:
    """The mean of what heads, latents [K, num_ws, w_dim], learn as in stage `editing`.  # [num_ws, w_dim]"""
    settings = params.editing.edit
    editor.set_latents(w_plus)
    before = editor.segment()
    wanted = targets_of(described, before, donors)
    region = edit_region(before, wanted, editor.S.class_ids(described.region))
    found = edit(
        editor.G,
        editor.S,
        editor.lpips_vgg,
        editor.w_plus,
        wanted.to(editor.device),
        region.to(editor.device),
        weights=settings.weights.model_copy(update={"identity": identity}),
        steps=settings.steps,
        lr=settings.lr,
        shared_rows=not free,
        identity=net if identity else None,
    )
    return (found.w_plus - editor.w_plus).mean(0).cpu()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--outputs", type=Path, default=Path("outputs"), help="folder with the trained models")
    parser.add_argument("--params", type=Path, default=Path("params.yaml"))
    parser.add_argument("--edits", type=Path, default=Path("edits.yaml"))
    parser.add_argument("--heads", type=int, default=200)
    parser.add_argument("--tuned", type=int, default=100, help="heads for which the generator is tuned; 0: none")
    parser.add_argument("--strengths", nargs=3, type=float, default=[1.5, 2.5, 4.0])
    parser.add_argument("--identity", type=float, default=5.0, help="weight of the identity loss in its row")
    options = parser.parse_args()
    editor, params, data = Editor.load(options.outputs), load_params(options.params), options.outputs / "data"
    guide = load_guide(options.outputs / "judges").to(editor.device)
    mobilefacenet = load_network("mobilefacenet", options.outputs / "assets").to(editor.device)
    guiding = load_network("dlib_resnet", options.outputs / "assets").to(editor.device)
    donors, described = labelled_heads(options.outputs, options.edits), load_edits(options.edits, editor.class_names)
    smile, mean = described["smile"], editor.vectors[EIGHT]
    learners = [int(source.removeprefix("val/")) for source in mean.source.split(", ")]
    first = [int(editor.vectors["smile"].source.removeprefix("val/"))]

    val = load_latents(options.outputs / "encoder" / "latents.safetensors")["val"]
    attributes = load_attributes(data / "val.zip")
    rest = [i for i, head in enumerate(attributes) if at_rest(head) and i not in {*learners, *first}][: options.heads]
    if len(rest) < options.heads:
        print(
            f"{len(rest)} validation heads are at rest and no vector was learned from them; {options.heads} asked for"
        )
    photos = torch.as_tensor(load_images(data / "val.zip", rest))
    missing = [index for index, head in enumerate(rest) if head >= len(val)]
    w_plus = torch.stack([val[head] if head < len(val) else torch.zeros_like(val[0]) for head in rest])
    guess = invert(editor.G, editor.E, editor.lpips_vgg, to_float(photos).to(editor.device), steps=0).cpu()
    if missing:
        print(f"embedding {len(missing)} heads that stage encoder did not embed", flush=True)
        steps, rate = params.encoder.inversion_steps, params.encoder.inversion_lr
        found = to_float(photos[missing]).to(editor.device)
        w_plus[missing] = invert(editor.G, editor.E, editor.lpips_vgg, found, steps=steps, lr=rate).cpu()
    kept = measure(mobilefacenet, photos, device=editor.device, batch=50)  # [N, D]

    editor.set_latents(w_plus)
    before = editor.segment()
    wanted = targets_of(smile, before, donors)
    region = edit_region(before, wanted, editor.S.class_ids(smile.region))
    print(f"\n| | heads | {' | '.join('smiling, identity, leak x1e3' for _ in options.strengths)} |")
    print("|---|---:" + "|---:" * len(options.strengths) + "|", flush=True)

    def cell(images: Tensor, against: Tensor) -> str:
        count = len(images)
        smiling = (measure(guide.smile, images, device=editor.device, batch=50) >= SMILE_THRESHOLD).double().mean()
        seen = measure(mobilefacenet, images, device=editor.device, batch=50)
        same = cosines(seen, kept[:count]).diagonal().mean()
        leak = outside_error(to_float(images), to_float(against), region[:count]).mean()
        return f"{smiling:.1%}, {same:.3f}, {1000 * leak:.2f}"

    def row(name: str, edited: Callable[[float], Tensor], against: Tensor, at=options.strengths) -> None:
        print(
            f"| {name} | {len(against)} | " + " | ".join(cell(edited(each), against) for each in at) + " |", flush=True
        )

    def along(delta: Tensor, start: Tensor = w_plus) -> Callable[[float], Tensor]:
        return lambda strength: editor.render(start + strength * delta)

    def refined(name: str) -> Callable[[float], Tensor]:
        return lambda strength: editor.apply({name: strength}, refine=params.editing.refine.steps).images

    def pasted(name: str) -> Callable[[float], Tensor]:
        def edited(strength: float) -> Tensor:
            made = editor.apply({name: strength})
            return paste_back(photos, made.images, made.region)

        return edited

    def by_segmentation(vector: EditingVector, strengths: tuple[float, ...]) -> Callable[[float], Tensor]:
        followed = followed_at(editor.G, editor.S, w_plus, vector, strengths, before, wanted)  # [S, N]

        def edited(share: float) -> Tensor:
            scale = least_strengths(followed, strengths, share)
            return editor.render(w_plus + scale[:, None, None] * vector.delta_w_plus)

        return edited

    embedded, of_one = editor.render(w_plus), editor.vectors["smile"]
    row("EditGAN", along(of_one.delta_w_plus), embedded)
    row("the encoder's guess as embedding", along(of_one.delta_w_plus, guess), editor.render(guess))
    options_of = dict(params=params, donors=donors, described=smile, net=guiding)
    row(
        "free rows, as in the paper",
        along(learned(editor, val[first], free=True, identity=0.0, **options_of)),
        embedded,
    )
    delta = learned(editor, val[first], free=False, identity=options.identity, **options_of)
    row(f"identity loss of weight {options.identity:g}", along(delta), embedded)
    for name, kept_rows in (("coarse", slice(0, 4)), ("middle", slice(4, 8)), ("fine", slice(8, None))):
        only = torch.zeros_like(of_one.delta_w_plus)
        only[kept_rows] = of_one.delta_w_plus[kept_rows]
        row(f"{name} rows alone", along(only), embedded)
    row("mean of 8 heads (EditGAN+)", along(mean.delta_w_plus), embedded)
    editor.set_latents(w_plus)
    row("refined", refined("smile"), embedded)
    row("mean of 8 heads, refined", refined(EIGHT), embedded)
    row("pasted back", pasted("smile"), photos)
    name, strengths = (
        "strength by the segmentation at shares " + ", ".join(f"{s:g}" for s in SHARES),
        params.scoring.editgan,
    )
    row(name, by_segmentation(of_one, strengths), embedded, SHARES)
    row("mean of 8 heads, strength by the segmentation", by_segmentation(mean, strengths), embedded, SHARES)

    count, strength = min(options.tuned, len(rest)), options.strengths[1]
    if not count:
        return
    chosen = json.loads((options.outputs / "scoring" / "metrics.json").read_text())["chosen"]
    deltas = {
        "EditGAN": strength * of_one.delta_w_plus,
        "InterFaceGAN": chosen["interfacegan"]["strength"]
        * load_tensors(options.outputs / "interfacegan" / "directions.safetensors")[0]["smile"].float(),
    }
    channels = load_tensors(options.outputs / "localediting" / "channels.safetensors")[0]
    swap = [[channels[f"{kind}{i:02d}"] for i in range(len(convolutions(editor.G)))] for kind in ("q", "style")]

    def edits(start: Tensor) -> dict[str, Tensor]:
        made = {name: editor.render(start + delta) for name, delta in deltas.items()}
        with swapped_styles(editor.G, *swap, chosen["localediting"]["strength"]):
            return made | {"LocalEditing": editor.render(start)}

    tuned, start, plain = [], [], edits(w_plus[:count])
    for index in range(count):
        editor.set_latents(w_plus[index : index + 1])
        editor.photos = photos[index : index + 1]
        start.append(editor.tune())
        tuned.append(edits(w_plus[index : index + 1]))
    print("\n| at one strength | heads | smiling, identity, leak x1e3 |\n|---|---:|---:|")
    for name, pictures in plain.items():
        row(name, lambda _, pictures=pictures: pictures, embedded[:count], (strength,))
        bent = torch.cat([each[name] for each in tuned])
        row(f"{name}, generator tuned to each photo (PTI)", lambda _, bent=bent: bent, torch.cat(start), (strength,))


if __name__ == "__main__":
    main()
