"""Stage `distillation`: sample image pairs along the smile direction, train pix2pixHD on them, validate on the rest."""

import torch
from PIL import Image
from torch import Tensor

from editgan.data.protocol import load_protocol
from editgan.encoder.losses import load_lpips
from editgan.errors import UserError
from editgan.generator.generator import load_generator, synthesise
from editgan.images import labelled_grid, save_png, to_float
from editgan.judges.classifier import SmileClassifier
from editgan.judges.load import load_guide
from editgan.judges.quality import SMILE_THRESHOLD
from editgan.methods.distillation.pairs import SIDES, choose_pairs, shifted, smile
from editgan.methods.distillation.pix2pixhd import GlobalGenerator, MultiscaleDiscriminator, initialise
from editgan.methods.distillation.train import Pairs, distillation_training
from editgan.methods.smile import sample_latents
from editgan.methods.translation import l1, still_improving
from editgan.runtime.stage import StageContext
from editgan.training import CURVE_FILE, DIGITS, count_parameters, generator_for, in_batches, train, write_curve
from editgan.weights import load_module, load_tensors, save_module, save_tensors, write_bytes, write_json

BATCH = 50  # images at a time
PICTURE_ROWS = 8
ROWS = 8  # coarse rows of w_plus that the smile direction moves, as in the paper


def run(context: StageContext) -> None:
    """Write generator.safetensors (the network that makes photos smile), pictures, curves and metrics.

    The method is left out, with empty outputs, for classes without faces.
    """
    if not load_protocol(context.input("data")).faces:
        leave_out(context)
        return
    guide = load_guide(context.input("judges")).to(context.device)
    pairs, val, metrics = make_pairs(context, guide)
    save_picture(context, "pairs", source=pairs.sources, target=pairs.targets)
    net, losses = train_network(context, guide, pairs, val)
    outputs = smile(net, val.sources, batch=BATCH)
    save_picture(context, "val", source=val.sources, output=outputs, target=val.targets)

    count = len(val)
    metrics |= {
        f"l1_val{count}": l1(outputs, val.targets),
        f"l1_val{count}_unchanged": l1(val.sources, val.targets),
        f"smiling_guide_val{count}": smiling(guide, outputs, context.device),
        f"smiling_guide_val{count}_sources": smiling(guide, val.sources, context.device),
        f"smiling_guide_val{count}_targets": smiling(guide, val.targets, context.device),
        "still_improving": still_improving(losses),
        "parameters": count_parameters(net),
    }
    write_json(context.out / "metrics.json", metrics)
    context.run.log_metrics({name: float(value) for name, value in metrics.items()})


def leave_out(context: StageContext) -> None:
    """Write empty outputs; tables then have no row of the method."""
    save_tensors(context.out / "generator.safetensors", {}, {"kind": "left out"})
    write_bytes(context.out / CURVE_FILE, b"")
    write_json(context.out / "curves" / "val.json", [])
    for name in ("pairs", "val"):
        save_png(context.out / f"{name}.png", Image.new("RGB", (context.params.resolution, context.params.resolution)))
    write_json(context.out / "metrics.json", {"pairs": 0})
    print("distillation is left out: it is compared on smiles")


def save_picture(context: StageContext, name: str, **columns: Tensor) -> None:
    """Write the first rows of uint8 images [N, 3, H, W] side by side."""
    picture = labelled_grid({title: images[:PICTURE_ROWS] for title, images in columns.items()}, scale=2)
    context.run.log_image(save_png(context.out / f"{name}.png", picture), name)


def make_pairs(context: StageContext, guide: SmileClassifier) -> tuple[Pairs, Pairs, dict[str, float]]:
    """Return (training pairs, validation pairs, metrics of the selection).

    The guide's logits are cached in the work folder; a resumed run renders the images again.
    """
    params, seed, device = context.params.distillation, context.params.seed, context.device
    G = load_generator(context.input("generator") / "G_ema.safetensors", device)
    if G.img_resolution != context.params.resolution:
        raise UserError(
            f"resolution {context.params.resolution}: the generator produces {G.img_resolution} px images;"
            " run stage generator again"
        )
    path = context.input("interfacegan") / "directions.safetensors"
    direction = load_tensors(path)[0].get("smile")
    if direction is None or direction.shape != (G.w_dim,):
        raise UserError(f"{path}: has no direction smile of {G.w_dim} entries; run stage interfacegan again")
    w_plus = sample_latents(G, params.samples, generator_for(seed, "distillation", "z"), batch=BATCH)
    total, done = len(SIDES) * params.samples + 2 * params.pairs, 0

    def images(latents: Tensor, sides: Tensor) -> Tensor:
        """Render latents [N, num_ws, w_dim], each shifted to its side (index into SIDES, [N]).  # uint8 [N, 3, H, W]"""
        nonlocal done
        steps, parts = params.step * torch.tensor(SIDES)[sides], []
        for w, step in zip(latents.split(BATCH), steps.split(BATCH), strict=True):
            moved = shifted(w, direction.to(device), step=step, rows=ROWS)
            parts.append(synthesise(G, moved, batch=BATCH))
            done += len(w)
            context.run.progress(done, total, "img", "rendering pairs")
        return torch.cat(parts)

    kept = context.work / "logits.safetensors"
    if not kept.exists():
        logits = [
            torch.stack([calls(guide, images(w, torch.full((len(w),), side)), device) for side in range(len(SIDES))], 1)
            for w in w_plus.split(BATCH)
        ]
        save_tensors(kept, {"logits": torch.cat(logits)})
    logits, done = load_tensors(kept)[0]["logits"], len(SIDES) * params.samples  # [N, 3]
    chosen = choose_pairs(logits, params.pairs)
    latents = w_plus[chosen.latents.to(w_plus.device)]
    sources, targets = (images(latents, chosen.sides[:, end]) for end in (0, 1))
    order = torch.randperm(params.pairs, generator=generator_for(seed, "distillation", "val"))
    val, learn = order[: params.val_pairs], order[params.val_pairs :]
    figures = {"pairs": len(learn), "least_confidence": round(float(chosen.confidence.min()), DIGITS)}
    return Pairs(sources[learn], targets[learn]), Pairs(sources[val], targets[val]), figures


def train_network(
    context: StageContext, guide: SmileClassifier, pairs: Pairs, val: Pairs
) -> tuple[GlobalGenerator, list[float]]:
    """Train the network; returns it as loaded from its file, and the validation losses."""
    params, seed = context.params.distillation, context.params.seed
    config = {"width": params.width, **depth_of(context.params.resolution), "residual": params.residual}
    net = initialise(GlobalGenerator(**config), generator_for(seed, "distillation", "net"))
    D = MultiscaleDiscriminator(in_channels=6, width=params.width)  # source and target
    initialise(D, generator_for(seed, "distillation", "D"))

    def on_snapshot(cur_nimg: int) -> dict[str, float]:
        outputs = smile(net, val.sources, batch=BATCH)
        share = smiling(guide, outputs, context.device)
        return {"val_l1": l1(outputs, val.targets), "val_smiling_guide": share}

    lpips_vgg = load_lpips(context.input("assets"), context.device)
    training = distillation_training(net, D, lpips_vgg, pairs, params, seed=seed, device=context.device)
    rows = train(training, context.run, context.work, on_snapshot=on_snapshot)
    path = save_module(context.out / "generator.safetensors", net, config)
    write_bytes(context.out / CURVE_FILE, (context.work / CURVE_FILE).read_bytes())
    curves = context.out / "curves"
    write_curve(curves / "train.json", rows, [name for name in rows[0] if not name.startswith(("val", "kimg"))])
    write_curve(curves / "val.json", rows, ("val_l1", "val_smiling_guide"))
    losses = [row["val_l1"] for row in rows if "val_l1" in row]
    return load_module(path, GlobalGenerator).to(context.device), losses


def depth_of(resolution: int) -> dict[str, int]:
    """Layers of stride 2 and residual blocks of the network: the paper's from 256 px on, fewer below."""
    return {"num_downs": min(4, resolution.bit_length() - 4), "num_blocks": 9 if resolution >= 256 else 3}


def calls(guide: SmileClassifier, images: Tensor, device: torch.device) -> Tensor:
    """Smile logits of uint8 images: [N], on the CPU."""
    return in_batches(lambda part: guide(to_float(part)), images, batch=BATCH, device=device)


def smiling(guide: SmileClassifier, images: Tensor, device: torch.device) -> float:
    """Share of uint8 images that the guide classifies as smiling."""
    return round(float((calls(guide, images, device).sigmoid() >= SMILE_THRESHOLD).double().mean()), DIGITS)
