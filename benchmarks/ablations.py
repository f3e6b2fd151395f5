"""Effect of each part of EditGAN+ on the smile, on validation heads, with the trained models.

    python benchmarks/ablations.py [--heads 200] [--tuned 100]

Every row is EditGAN (the vector of one head, in the embedding of stage `encoder`) with one change, or with several
where stated. EditGAN+ is the mean of eight heads. In rows where the segmentation determines the strength per head (the
smallest one at which it predicts a given share of the head's edited mask), the columns are shares instead of strengths.
Tuning needs a copy of the generator for each head, so it uses fewer heads and one strength: EditGAN's second one, and
for InterFaceGAN and LocalEditing, which are tuned too, the one chosen by stage `scoring`.

smiling: share that the guide calls smiling (the judges of the benchmark choose nothing). identity: cosine of
MobileFaceNet's ArcFace features to the photo. leak: to the reconstruction, or to the photo for pasted pictures. The
heads are neutral and no vector was learned from them.
"""

from collections.abc import Callable, Sequence

import torch
from measuring import Trained, followed, header, leak, row, trained_command_line
from torch import Tensor

from editgan.data.paste import paste_back
from editgan.editing.masks import edit_region
from editgan.editing.vectors import EditingVector, apply_vector
from editgan.judges.load import load_guide
from editgan.methods.localediting.channels import convolutions, swapped_styles
from editgan.methods.registry import INTERFACEGAN, LOCALEDITING
from editgan.methods.smile import at_rest
from editgan.segmentation.predict import predict_masks
from editgan.weights import load_tensors

STRENGTHS = (1.5, 2.5, 4.0)
SHARES = (0.3, 0.5, 0.7)  # of the edited pixels, that the segmentation must label as wanted
GROUPS = {"coarse": slice(0, 4), "middle": slice(4, 8), "fine": slice(8, None)}
IDENTITY = 5.0  # weight of the identity loss in its row


def least_strengths(shares: Tensor, strengths: Sequence[float], wanted: float) -> Tensor:
    """For each head the smallest strength that reaches the wanted share; if there is none, the largest one.

    Args:
        shares: `followed` at each strength, in increasing order; NaN if the mask has no edited pixel  # [S, N]
    Returns:
        [N]
    """
    enough = ~(shares < wanted)  # [S, N]
    enough[-1] = True
    return torch.tensor(strengths, dtype=torch.float32)[enough.float().argmax(0)]


def learned(run: Trained, head: int, identity: float) -> Tensor:
    """The smile vector learned from one validation head, with this weight of the identity loss.  # [num_ws, w_dim]"""
    editor, smile, section = run.editor, run.edits[run.params.scoring.vector], run.params.editing
    editor.set_latents(run.latents("val")[[head]])
    before = editor.segment()
    wanted = run.wanted(smile, before)
    found = editor.edit(
        wanted,
        edit_region(before, wanted, editor.S.class_ids(smile.region)),
        steps=section.edit.steps,
        lr=section.edit.lr,
        weights=section.weights.model_copy(update={"identity": identity}),
    )
    return (found.w_plus - editor.w_plus)[0].cpu()


def main() -> None:
    parser = trained_command_line(__doc__)
    parser.add_argument("--heads", type=int, default=200)
    parser.add_argument("--tuned", type=int, default=100, help="number of heads to tune the generator for; 0: none")
    options = parser.parse_args()
    run = Trained(options)
    editor, guide = run.editor, load_guide(run.outputs / "judges").to(run.device)
    smile, eight_smiles = run.params.scoring.vector, run.params.scoring.plus_vector
    one, eight, steps = editor.vectors[smile], editor.vectors[eight_smiles], run.params.editing.refine.steps
    learners = [int(source.removeprefix("val/")) for vector in (one, eight) for source in vector.source.split(", ")]
    neutral = [i for i, head in enumerate(run.attributes("val")) if at_rest(head) and i not in learners]
    heads = neutral[: options.heads]
    photos, w_plus = run.images("val", heads), run.val_latents(heads)
    editor.set_image(photos, steps=0)
    estimate = editor.w_plus.cpu()
    editor.set_latents(w_plus)
    embedded, before = editor.render(w_plus), editor.segment()
    wanted = run.wanted(run.edits[smile], before)
    region = edit_region(before, wanted, editor.S.class_ids(run.edits[smile].region))

    def show(name: str, edited: Callable[[float], Tensor], against: Tensor = embedded, at=STRENGTHS) -> None:
        cells = []
        for strength in at:
            images, count = edited(strength), len(against)
            cells.append(
                f"{run.smiling(guide, images):.1%}, {run.identity(images, photos[:count]):.3f}, "
                f"{leak(images, against, region[:count]):.2f}"
            )
        row(name, len(against), *cells)

    def along(delta: Tensor, start: Tensor = w_plus) -> Callable[[float], Tensor]:
        return lambda strength: editor.render(start + strength * delta)

    def refined(name: str) -> Callable[[float], Tensor]:
        return lambda strength: editor.apply({name: strength}, refine=steps).images

    def pasted(strength: float) -> Tensor:
        made = editor.apply({smile: strength})
        return paste_back(photos, made.images, made.region)

    def by_segmentation(vector: EditingVector) -> Callable[[float], Tensor]:
        strengths = run.params.scoring.editgan
        masks = (predict_masks(editor.G, editor.S, apply_vector(w_plus, vector, strength)) for strength in strengths)
        shares = torch.stack([followed(each, before, wanted) for each in masks])  # [S, N]

        def edited(share: float) -> Tensor:
            scale = least_strengths(shares, strengths, share)
            return editor.render(w_plus + scale[:, None, None] * vector.delta_w_plus)

        return edited

    header("", "heads", *("smiling, identity, leak x1e3",) * len(STRENGTHS))
    show("EditGAN", along(one.delta_w_plus))
    show("the encoder's estimate as embedding", along(one.delta_w_plus, estimate), editor.render(estimate))
    show(f"identity loss of weight {IDENTITY:g}", along(learned(run, learners[0], IDENTITY)))
    for name, kept in GROUPS.items():
        only = torch.zeros_like(one.delta_w_plus)
        only[kept] = one.delta_w_plus[kept]
        show(f"{name} rows alone", along(only))
    show("mean of 8 heads (EditGAN+)", along(eight.delta_w_plus))
    editor.set_latents(w_plus)
    show("refined", refined(smile))
    show("mean of 8 heads, refined", refined(eight_smiles))
    show("pasted back", pasted, photos)
    shares = ", ".join(f"{share:g}" for share in SHARES)
    show(f"strength by the segmentation at shares {shares}", by_segmentation(one), at=SHARES)
    show("mean of 8 heads, strength by the segmentation", by_segmentation(eight), at=SHARES)

    count = min(options.tuned, len(heads))
    if not count:
        return
    chosen, folder = run.chosen(), run.outputs
    direction = load_tensors(folder / "interfacegan" / "directions.safetensors")[0]["smile"].float()
    deltas = {"EditGAN": STRENGTHS[1] * one.delta_w_plus, "InterFaceGAN": chosen[INTERFACEGAN] * direction}
    channels = load_tensors(folder / "localediting" / "channels.safetensors")[0]
    swap = [[channels[f"{kind}{i:02d}"] for i in range(len(convolutions(editor.G)))] for kind in ("q", "style")]

    def edits(start: Tensor) -> dict[str, Tensor]:
        made = {name: editor.render(start + delta) for name, delta in deltas.items()}
        with swapped_styles(editor.G, *swap, chosen[LOCALEDITING]):
            return made | {"LocalEditing": editor.render(start)}

    tuned, starts, plain = [], [], edits(w_plus[:count])
    for index in range(count):
        editor.set_latents(w_plus[index : index + 1])
        editor.photos = photos[index : index + 1]
        starts.append(editor.tune())
        tuned.append(edits(editor.w_plus.cpu()))
    header("at one strength", "heads", "smiling, identity, leak x1e3")
    for name, pictures in plain.items():
        show(name, lambda _, pictures=pictures: pictures, embedded[:count], STRENGTHS[1:2])
        images, name = torch.cat([each[name] for each in tuned]), f"{name}, generator tuned to each photo (PTI)"
        show(name, lambda _, images=images: images, torch.cat(starts), STRENGTHS[1:2])


if __name__ == "__main__":
    main()
