"""Stage `distillation`: sample image pairs along the smile direction, train pix2pixHD on them, validate on the rest."""

import json

import torch
from torch import Tensor

from editgan.assets.load import load_network
from editgan.assets.networks.winograd import use_winograd
from editgan.errors import UserError
from editgan.generator.generator import TRUNCATION_PSI, load_generator
from editgan.images import labelled_grid, save_png, to_float, to_uint8
from editgan.judges import load_guide
from editgan.judges.classifier import SmileClassifier
from editgan.judges.quality import SMILE_THRESHOLD
from editgan.methods.distillation.pairs import SIDES, ChosenPairs, choose_pairs, shifted, smile
from editgan.methods.distillation.pix2pixhd import GlobalGenerator, MultiscaleDiscriminator, initialise
from editgan.methods.distillation.train import Pairs, train_distillation
from editgan.methods.translation import DIGITS, l1, still_improving
from editgan.runtime.stage import StageContext
from editgan.training import append_row, count_parameters, generator_for
from editgan.weights import load_module, load_tensors, save_module, save_tensors, write_bytes, write_json

BATCH = 50  # images at a time
PICTURE_ROWS = 8
ROWS = 8  # of w_plus that the smile moves, the coarse ones, as in the paper


def run(context: StageContext) -> None:
    """Write generator.safetensors (the network that makes photos smile), pictures, curves and metrics."""
    guide = load_guide(context.input("judges")).to(context.device)
    pairs, val, metrics = make_pairs(context, guide)
    columns = {"source": pairs.sources[:PICTURE_ROWS], "target": pairs.targets[:PICTURE_ROWS]}
    context.run.log_image(save_png(context.out / "pairs.png", labelled_grid(columns, scale=2)), "pairs")

    net, history = train(context, guide, pairs, val)
    outputs = smile(net, val.sources, batch=BATCH)
    columns = {"source": val.sources, "output": outputs, "target": val.targets}
    picture = labelled_grid({name: images[:PICTURE_ROWS] for name, images in columns.items()}, scale=2)
    context.run.log_image(save_png(context.out / "val.png", picture), "val")

    count = len(val)
    metrics |= {
        f"l1_val{count}": l1(outputs, val.targets),
        f"l1_val{count}_unchanged": l1(val.sources, val.targets),
        f"smiling_guide_val{count}": smiling(guide, outputs, context.device),
        f"smiling_guide_val{count}_sources": smiling(guide, val.sources, context.device),
        f"smiling_guide_val{count}_targets": smiling(guide, val.targets, context.device),
        "still_improving": still_improving([row["val_l1"] for row in history]),
        "parameters": count_parameters(net),
    }
    write_json(context.out / "metrics.json", metrics)
    context.run.log_metrics({name: float(value) for name, value in metrics.items()})


def make_pairs(context: StageContext, guide: SmileClassifier) -> tuple[Pairs, Pairs, dict[str, float]]:
    """Return (training pairs, validation pairs, metrics of the selection).

    The guide's logits are cached in the work folder; a resumed run renders the images again.
    """
    params, seed = context.params.distillation, context.params.seed
    G = load_generator(context.input("generator") / "G_ema.safetensors", context.device)
    if G.img_resolution != context.params.resolution:
        raise UserError(
            f"resolution {context.params.resolution}: the generator produces {G.img_resolution} px images;"
            " run stage generator again"
        )
    path = context.input("interfacegan") / "directions.safetensors"
    direction = load_tensors(path)[0].get("smile")
    if direction is None or direction.shape != (G.w_dim,):
        raise UserError(f"{path}: has no direction smile of {G.w_dim} entries; run stage interfacegan again")
    z = torch.randn(params.samples, G.z_dim, generator=generator_for(seed, "distillation", "z"))
    with torch.no_grad():
        w_plus = torch.cat(
            [G.mapping(part.to(context.device), truncation_psi=TRUNCATION_PSI) for part in z.split(BATCH)]
        )  # [N, num_ws, w_dim]
    total, done = len(SIDES) * params.samples + 2 * params.pairs, 0

    def images(latents: Tensor, sides: Tensor) -> Tensor:
        """Render latents [N, num_ws, w_dim], each shifted to its side (index into SIDES, [N]).  # uint8 [N, 3, H, W]"""
        nonlocal done
        steps, parts = params.step * torch.tensor(SIDES)[sides], []
        for w, step in zip(latents.split(BATCH), steps.split(BATCH), strict=True):
            moved = shifted(w, direction.to(w.device), step=step, rows=ROWS)
            with torch.no_grad():
                parts.append(to_uint8(G.synthesis(moved, noise_mode="const")).cpu())
            done += len(w)
            context.run.progress(done, total, "img", "rendering pairs")
        return torch.cat(parts)

    kept = context.work / "logits.safetensors"
    if not kept.exists():
        logits = torch.empty(len(w_plus), len(SIDES))
        for start in range(0, len(w_plus), BATCH):
            part = w_plus[start : start + BATCH]
            for side in range(len(SIDES)):
                made = images(part, torch.full((len(part),), side))
                logits[start : start + BATCH, side] = calls(guide, made, context.device)
        save_tensors(kept, {"logits": logits})
    logits, done = load_tensors(kept)[0]["logits"], len(SIDES) * params.samples
    chosen = chosen_pairs(logits, params.pairs)
    latents = w_plus[chosen.latents.to(w_plus.device)]
    both = Pairs(images(latents, chosen.sides[:, 0]), images(latents, chosen.sides[:, 1]))
    order = torch.randperm(len(chosen), generator=generator_for(seed, "distillation", "val"))
    val, learn = order[: params.val_pairs], order[params.val_pairs :]
    figures = {"pairs": len(learn), "least_confidence": round(float(chosen.confidence.min()), DIGITS)}
    return Pairs(both.sources[learn], both.targets[learn]), Pairs(both.sources[val], both.targets[val]), figures


def chosen_pairs(logits: Tensor, count: int) -> ChosenPairs:
    """`choose_pairs` with a user-facing error."""
    try:
        return choose_pairs(logits, count)
    except ValueError as error:
        raise UserError(
            f"distillation.pairs {count}: {error}; raise distillation.samples or step, or lower pairs"
        ) from error


def train(
    context: StageContext, guide: SmileClassifier, pairs: Pairs, val: Pairs
) -> tuple[GlobalGenerator, list[dict[str, float]]]:
    """Train the network; returns it as loaded from its file, and the rows of the validation curve."""
    params, seed = context.params.distillation, context.params.seed
    config = {"width": params.width, **depth_of(context.params.resolution), "residual": params.residual}
    net = initialise(GlobalGenerator(**config), generator_for(seed, "distillation", "net"))
    D = MultiscaleDiscriminator(in_channels=6, width=params.width)  # source and target
    initialise(D, generator_for(seed, "distillation", "D"))
    lpips_vgg = use_winograd(load_network("lpips_vgg", context.input("assets")))
    lpips_vgg = lpips_vgg.to(context.device, memory_format=torch.channels_last)
    total_nimg, curve = round(params.kimg * 1000), context.work / "stats.jsonl"

    def on_status(cur_nimg: int, status: dict[str, float]) -> None:
        context.run.log_metrics(status, step=cur_nimg / 1000)
        message = f"L1 {status['l1']:.3f}, {status['img_per_s']:.1f} img/s"
        context.run.progress(min(cur_nimg, total_nimg), total_nimg, "pairs", message)
        row = {name: round(v, DIGITS) for name, v in status.items() if name != "img_per_s"}
        append_row(curve, {"kimg": cur_nimg / 1000} | row)

    def on_snapshot(cur_nimg: int, net: GlobalGenerator) -> dict[str, float]:
        outputs = smile(net, val.sources, batch=BATCH)
        share = smiling(guide, outputs, context.device)
        return {"val_l1": l1(outputs, val.targets), "val_smiling_guide": share}

    train_distillation(
        net,
        D,
        lpips_vgg,
        pairs,
        params,
        seed=seed,
        work=context.work,
        device=context.device,
        on_status=on_status,
        on_snapshot=on_snapshot,
    )
    path = save_module(context.out / "generator.safetensors", net, config)
    write_bytes(context.out / "stats.jsonl", curve.read_bytes())
    rows = [json.loads(line) for line in curve.read_text().splitlines()]
    measured = [row for row in rows if "val_l1" in row]
    names = {"train": [name for name in rows[0] if not name.startswith("val")]}
    names["val"] = ["kimg", "val_l1", "val_smiling_guide"]
    for table, part in (("train", rows), ("val", measured)):
        content = [{name: row[name] for name in names[table]} for row in part]
        write_json(context.out / "curves" / f"{table}.json", content)
    return load_module(path, GlobalGenerator).to(context.device), measured


def depth_of(resolution: int) -> dict[str, int]:
    """Layers of stride 2 and residual blocks of the network: the paper's from 256 px on, fewer below."""
    return {"num_downs": min(4, resolution.bit_length() - 4), "num_blocks": 9 if resolution >= 256 else 3}


@torch.no_grad()
def calls(guide: SmileClassifier, images: Tensor, device: torch.device) -> Tensor:
    """Smile logits of uint8 images: [N], on the CPU."""
    return torch.cat([guide(to_float(part).to(device)).cpu() for part in images.split(BATCH)])


def smiling(guide: SmileClassifier, images: Tensor, device: torch.device) -> float:
    """Share of uint8 images that the guide classifies as smiling."""
    return round(float((calls(guide, images, device).sigmoid() >= SMILE_THRESHOLD).double().mean()), DIGITS)
