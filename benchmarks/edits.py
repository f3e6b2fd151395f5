"""Every editing vector against a linear direction, and the three modes of editing, on test heads.

    python benchmarks/edits.py [--heads 100] [--refined 50] [--optimised 20] [--samples 10000] [--only smile ...]
        [--strips strips.png]

Each edit changes one measure of a part: its area, its width, or its height above the eyes (`MEASURES`). An edit
succeeds on a head if the edited picture has at least half of the change in the head's target mask. The judge is the
parser of stage `maskgan`, a network from images to masks trained on 20,000 rendered masks. No edit is optimised with
it, but settings of editing were compared with it on validation heads (docs/results/edits.md). Heads whose target mask
changes the measure by less than a pixel are left out.

Leak is LPIPS-Alex to the reconstruction outside the edited region. The first table interpolates it at the strength at
which 80 % of the heads succeed, so that weak edits have no advantage. The direction is InterFaceGAN's: a linear support
vector machine in W separates the samples with the largest and the smallest measures by the parser. For the smile it is
the direction of stage `interfacegan`, which separates samples by the guide's smile score. `--outputs runs/cars/outputs`
measures the edits of another class.

The second table compares the modes: the mean vector at that strength, the same with 30 steps of refinement, and 100
steps of optimisation from scratch towards each head's own target mask, without a vector. The strength is found on the
same heads.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from measuring import Trained, header, row, trained_command_line
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from editgan.data.protocol import MOUTH
from editgan.editing.edits import Edit, fits
from editgan.editing.masks import EYES, edit_region, is_part
from editgan.editing.vectors import MEAN
from editgan.editor.editor import Editor
from editgan.images import CAPTION_HEIGHT, colourize, labelled_grid, save_png, to_float
from editgan.methods.interfacegan.direction import find_boundary
from editgan.methods.maskgan.losses import Parser, predict
from editgan.methods.smile import sample_latents
from editgan.training import generator_for, in_batches
from editgan.weights import load_module, load_tensors

VECTOR_STRENGTHS = (0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 4.0)
DIRECTION_STRENGTHS = (1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 11.0, 15.0)  # in units of W
STRIP = (-2.0, -1.0, 1.0, 2.0)
WANTED = 0.8  # share of heads at which leaks are compared
MARGIN = 110  # pixels for the names of the rows
HALF = 0.5  # share of the change in the target mask from which on an edit succeeds
BATCH = 50
BROWS = ("left_brow", "right_brow")
BODY = ("background", "clothing", "neck")  # not part of the head
MEASURES = {  # edit -> (what changes, of which parts)
    "smile": ("width", MOUTH),
    "frown": ("height", BROWS),
    "open_mouth": ("area", ("mouth_interior",)),
    "closed_eyes": ("area", EYES),
    "wide_eyes": ("area", EYES),
    "raise_brows": ("height", BROWS),
    "raise_left_brow": ("height", ("left_brow",)),
    "big_nose": ("area", ("nose",)),
    "wide_face": ("area", ("skin",)),
    "long_hair": ("area", ("hair",)),
    "beard": ("area", ("facial_hair",)),
    "no_beard": ("area", ("facial_hair",)),
    "no_glasses": ("area", ("glasses",)),
    "fuller_lips": ("area", MOUTH),
    "narrow_mouth": ("width", MOUTH),
    # cars
    "bigger_wheels": ("area", ("wheels", "rims", "spokes")),
    "more_spokes": ("area", ("spokes",)),
    "headlights_on": ("area", ("lit_headlights",)),
    "longer_bonnet": ("width", ("bonnet",)),
    "roof_up": ("area", ("roof", "windows", "windscreen")),
}


@dataclass(frozen=True)
class Heads:
    """Test heads that satisfy the rules of an edit and whose mask it changes."""

    numbers: list[int]
    w_plus: Tensor  # [N, num_ws, w_dim]
    before: Tensor  # their predicted masks  # uint8 [N, H, W]
    target: Tensor  # their target masks  # uint8 [N, H, W]
    region: Tensor  # bool [N, H, W]


def fitting_heads(run: Trained, edit: Edit, w_plus: Tensor, attributes: list[dict], count: int) -> Heads | None:
    """Set those of the first `count` heads satisfying an edit's rules whose mask it changes; None if there is none.

    Args:
        w_plus, attributes: of all heads
    """
    fitting = [i for i, head in enumerate(attributes) if all(fits(head, rule) for rule in edit.learn_from)][:count]
    if not fitting:
        return None
    run.editor.set_latents(w_plus[fitting])
    before = run.editor.segment()
    target = run.wanted(edit, before)
    used = (before != target).flatten(1).any(1)
    if not used.any():
        return None
    heads, before, target = torch.tensor(fitting)[used], before[used], target[used]
    run.editor.set_latents(w_plus[heads])
    region = edit_region(before, target, run.editor.S.class_ids(edit.region))
    return Heads(heads.tolist(), w_plus[heads], before, target, region)


def centre_y(part: Tensor) -> Tensor:
    """Mean row of the pixels of a part, NaN without any: bool [N, H, W] -> [N]"""
    rows = torch.arange(part.shape[1], dtype=torch.float64)[:, None]
    return (part * rows).sum((1, 2)) / part.sum((1, 2))


def measured(kind: str, masks: Tensor, parts: Sequence[str], names: Sequence[str]) -> Tensor:
    """The area (pixels), width (columns) or height above the eyes (rows) of parts in masks [N, H, W].  # [N]"""
    part = is_part(masks, [names.index(name) for name in parts])
    if kind == "area":
        return part.sum((1, 2)).double()
    if kind == "width":
        return part.any(1).sum(1).double()
    return centre_y(is_part(masks, [names.index(name) for name in EYES])) - centre_y(part)


class Judged:
    """The heads of one edit; measures the success and the leak of edited pictures of them."""

    def __init__(self, run: Trained, parser: Parser, name: str, heads: Heads) -> None:
        self.run, self.parser, self.heads = run, parser, heads
        self.kind, self.parts = MEASURES[name]
        self.asked = self.of(heads.target) - self.of(heads.before)  # [N]
        self.counts = self.asked.abs() >= 1  # [N]; False for NaN
        self.begin(run.editor.render(heads.w_plus))

    def begin(self, kept: Tensor) -> None:
        """The unedited pictures, uint8 [N, 3, H, W]: normally the reconstructions by stage `encoder`."""
        self.kept, self.start = kept, self.of(predict(self.parser, kept))  # start: [N]

    def of(self, masks: Tensor) -> Tensor:
        return measured(self.kind, masks, self.parts, self.run.editor.class_names)

    def __call__(self, images: Tensor) -> tuple[float, float]:
        """Share of successes on the first n heads, and mean leak, of their edited pictures, uint8 [n, 3, H, W]."""
        n = len(images)
        reached = (self.of(predict(self.parser, images)) - self.start[:n]) / self.asked[:n]  # [n]
        success = (reached >= HALF)[self.counts[:n]].double().mean().item()
        leaks = lpips_outside(self.run.alex, images, self.kept[:n], self.heads.region[:n])  # [n]
        return success, leaks[self.counts[:n]].mean().item()


def lpips_outside(network: torch.nn.Module, images: Tensor, kept: Tensor, region: Tensor) -> Tensor:
    """LPIPS-Alex of two stacks, uint8 [N, 3, H, W], with the region grey in both.  # [N]"""
    outside = (~region)[:, None]
    x, y = to_float(images) * outside, to_float(kept) * outside
    return in_batches(network, x, y, batch=BATCH, device=next(network.parameters()).device)


def at_success(results: list[tuple[float, float]], strengths: Sequence[float]) -> tuple[float, float] | None:
    """Strength and leak at which `WANTED` of the heads succeed, interpolated linearly; None if none is strong enough.

    results: (success, leak) at each strength, in increasing order
    """
    earlier = (0.0, 0.0, 0.0)
    for (success, leak), strength in zip(results, strengths, strict=True):
        if success >= WANTED:
            share = (WANTED - earlier[0]) / (success - earlier[0])
            return earlier[2] + share * (strength - earlier[2]), earlier[1] + share * (leak - earlier[1])
        earlier = (success, leak, strength)
    return None


def directions(run: Trained, parser: Parser, samples: int) -> dict[tuple, Tensor]:
    """InterFaceGAN's unit normal towards larger values of each measure relative to the head.  # [w_dim] each"""
    editor, names, masks = run.editor, run.editor.class_names, []
    latents = sample_latents(editor.G, samples, generator_for(run.params.seed, "benchmarks", "edits"), batch=BATCH)
    for part in latents.split(BATCH):
        masks.append(predict(parser, editor.render(part)))
    masks, w = torch.cat(masks), latents[:, 0].cpu()
    size = measured("area", masks, [name for name in names if name not in BODY], names).clamp(min=1)  # [S]
    found = {}
    for kind, parts in sorted({MEASURES[name] for name in run.edits if name in MEASURES}):
        scores = measured(kind, masks, parts, names) / (size if kind == "area" else size.sqrt())
        known = scores.isfinite()
        generator = generator_for(run.params.seed, "benchmarks", "edits", kind, *parts)
        found[kind, parts] = find_boundary(w[known], scores[known], generator=generator).normal
    return found


def direction_of(run: Trained, name: str, normals: dict[tuple, Tensor], asked: Tensor) -> Tensor:
    """The direction of one edit: towards larger or smaller values, as in its target masks.  # [w_dim]"""
    if name == "smile":
        return load_tensors(run.outputs / "interfacegan" / "directions.safetensors")[0]["smile"].float()
    return normals[MEASURES[name]] * asked.mean().sign()


def cells_of(found: tuple[float, float] | None, results: list[tuple[float, float]], at: str = "{:.2f}") -> list[str]:
    """Table cells: strength and leak at `WANTED`, or the largest success of all strengths."""
    if found is None:
        return [f"at most {max(success for success, _ in results):.0%}", "-"]
    return [at.format(found[0]), f"{1000 * found[1]:.1f}"]


def strip(editor: Editor, name: str, heads: Heads, strength: float) -> dict[str, Tensor]:
    """One row of the picture, of the first head.  # uint8 [1, 3, H, W] each"""
    editor.set_latents(heads.w_plus[:1])
    columns = {f"x{scale:g}": editor.apply({f"{name}{MEAN}": scale}).images for scale in STRIP[:2]}
    columns |= {"embedded": editor.render(editor.w_plus), "mask": colourize(editor.segment(), editor.palette)}
    columns |= {f"x{scale:g}": editor.apply({f"{name}{MEAN}": scale}).images for scale in STRIP[2:]}
    columns["+30"] = editor.apply({f"{name}{MEAN}": strength}, refine=30).images
    optimised = editor.edit(heads.target[:1])
    columns["target"] = colourize(heads.target[:1], editor.palette)
    return columns | {"100 steps": optimised.images, "its mask": colourize(optimised.masks, editor.palette)}


def with_row_names(picture: Image.Image, names: Sequence[str]) -> Image.Image:
    """A labelled grid with the name of each row to the left of it."""
    named = Image.new("RGB", (picture.width + MARGIN, picture.height), "white")
    named.paste(picture, (MARGIN, 0))
    draw, font = ImageDraw.Draw(named), ImageFont.load_default(size=12)
    height = (picture.height - CAPTION_HEIGHT) / len(names)
    for row_of, name in enumerate(names):
        draw.text((4, CAPTION_HEIGHT + height * (row_of + 0.5)), name, fill="black", font=font, anchor="lm")
    return named


def main() -> None:
    parser = trained_command_line(__doc__)
    parser.add_argument("--heads", type=int, default=100, help="maximum number of test heads per edit")
    parser.add_argument("--refined", type=int, default=50, help="number of these heads to refine")
    parser.add_argument("--optimised", type=int, default=20, help="number of these heads to optimise")
    parser.add_argument("--samples", type=int, default=10000, help="number of samples for the linear directions")
    parser.add_argument("--only", nargs="+", metavar="EDIT", help="edits to measure; default: all")
    parser.add_argument("--strips", type=Path, help="output file of a picture with one row per edit")
    options = parser.parse_args()
    run = Trained(options)
    editor = run.editor
    reader = load_module(run.outputs / "maskgan" / "parser.safetensors", Parser).to(run.device)
    normals = directions(run, reader, options.samples)
    w_plus, attributes, modes, strips = run.latents("test"), run.attributes("test"), [], []
    methods = ("vector of one head", "mean of eight", "linear direction")
    header("edit", "heads", *(f"{method}: {what}" for method in methods for what in ("strength", "leak x1e3")), "ratio")
    for name in options.only or [name for name in MEASURES if name in run.edits]:
        heads = fitting_heads(run, run.edits[name], w_plus, attributes, options.heads)
        if heads is None:
            continue
        judged = Judged(run, reader, name, heads)
        normal = direction_of(run, name, normals, judged.asked[judged.counts])

        def along(delta: Tensor, strengths: Sequence[float], heads=heads, judged=judged) -> list[tuple[float, float]]:
            return [judged(editor.render(heads.w_plus + (strength * delta).float())) for strength in strengths]

        cells, found = [name, int(judged.counts.sum())], []
        for vector in (name, f"{name}{MEAN}"):
            results = along(editor.vectors[vector].delta_w_plus, VECTOR_STRENGTHS)
            found.append(at_success(results, VECTOR_STRENGTHS))
            cells += cells_of(found[-1], results)
        results = along(normal, DIRECTION_STRENGTHS)
        found.append(at_success(results, DIRECTION_STRENGTHS))
        cells += cells_of(found[-1], results, "{:.1f}")
        row(*cells, f"{found[1][1] / found[2][1]:.2f}" if found[1] and found[2] else "-")

        strength = found[1][0] if found[1] else VECTOR_STRENGTHS[-1]
        editor.set_latents(heads.w_plus)
        ways: list[tuple[int, Callable[[], Tensor]]] = [
            (len(heads.numbers), lambda s=strength, n=name: editor.apply({f"{n}{MEAN}": s}).images),
            (options.refined, lambda s=strength, n=name: editor.apply({f"{n}{MEAN}": s}, refine=30).images),
            (options.optimised, lambda heads=heads: editor.edit(heads.target[: options.optimised]).images),
        ]
        of_modes = [name, f"{strength:.2f}"]
        for count, way in ways:
            editor.set_latents(heads.w_plus[:count])
            success, leak = judged(way())
            of_modes += [min(count, len(heads.numbers)), f"{success:.0%}", f"{1000 * leak:.1f}"]
        modes.append(of_modes)
        if options.strips:
            strips.append((name, strip(editor, name, heads, strength)))
    print()
    columns = ("heads", "success", "leak x1e3")
    header("edit", "strength", *(f"{way}: {what}" for way in ("vector", "+30", "100 steps") for what in columns))
    for cells in modes:
        row(*cells)
    if strips:
        columns = {caption: torch.cat([images[caption] for _, images in strips]) for caption in strips[0][1]}
        picture = with_row_names(labelled_grid(columns, scale=2), [name for name, _ in strips])
        print(f"\n{save_png(options.strips, picture)}")


if __name__ == "__main__":
    main()
