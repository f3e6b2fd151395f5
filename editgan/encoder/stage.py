"""Stage `encoder`: train E, embed the labelled, validation and test heads, measure the reconstructions."""

from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from editgan.data.archive import load_images
from editgan.data.training import training_folder
from editgan.encoder.encoder import Encoder, load_encoder, load_latents, save_encoder, save_latents
from editgan.encoder.inversion import invert
from editgan.encoder.losses import l2_distance, load_lpips, reconstruction_loss
from editgan.encoder.train import encoder_training
from editgan.errors import UserError
from editgan.generator.generator import Generator, load_generator
from editgan.images import labelled_grid, mean_squared_error, save_png, to_float, to_uint8
from editgan.runtime.stage import StageContext
from editgan.training import (
    CURVE_FILE,
    DIGITS,
    count_parameters,
    in_batches,
    once,
    seed_everything,
    train,
    write_curve,
)
from editgan.weights import write_bytes, write_json

SNAPSHOT_IMAGES = 16  # validation heads for the curve, which uses the training losses, no judge
PICTURE_ROWS = 12  # validation heads in reconstructions.png
MEASURE_BATCH = 20
INVERSION_BATCH = 16  # images at a time


def run(context: StageContext) -> None:
    """Train, embed, measure. Training and embedding resume where an interrupted run stopped."""
    params, data, device = context.params.encoder, context.input("data"), context.device
    G = load_generator(context.input("generator") / "G_ema.safetensors", device)
    if G.img_resolution != context.params.resolution:
        raise UserError(
            f"resolution {context.params.resolution}: the generator produces {G.img_resolution} px images;"
            " run stage generator again"
        )
    lpips_vgg = load_lpips(context.input("assets"), device)

    E = train_encoder(context, G, lpips_vgg)
    sets = {
        "few_shot": load_split(data / "pool.zip", context.params.data.few_shot),
        "val": load_split(data / "val.zip", params.val_images),
        "test": load_split(data / "test.zip"),
    }
    latents = embed(context, G, E, lpips_vgg, sets)
    reals = to_float(sets["val"])
    latents["val_encoder"] = in_batches(E, reals, batch=MEASURE_BATCH, device=device)
    path = save_latents(context.out / "latents.safetensors", latents, params.inversion_steps)
    latents = load_latents(path)

    stages = {"encoder": latents["val_encoder"], f"encoder_{params.inversion_steps}_steps": latents["val"]}
    columns, metrics = {"input": to_uint8(reals[:PICTURE_ROWS])}, {}
    for name, w_plus in stages.items():
        fakes = in_batches(
            lambda w: G.synthesis(w, noise_mode="const").clamp(-1, 1), w_plus, batch=MEASURE_BATCH, device=device
        )
        columns[name] = to_uint8(fakes[:PICTURE_ROWS])
        metrics[name] = measure(reals, fakes, lpips_vgg, device)
    context.run.log_metrics({f"{row}_{name}": v for row in stages for name, v in metrics[row].items()})
    write_json(context.out / "metrics.json", metrics | {"parameters_E": count_parameters(E)})
    path = save_png(context.out / "reconstructions.png", labelled_grid(columns, scale=2))
    context.run.log_image(path, "reconstructions")


def load_split(path: Path, number: int | None = None) -> Tensor:
    """The first `number` images of an archive, or all: uint8 [N, 3, H, W]."""
    return torch.as_tensor(load_images(path, None if number is None else range(number)))


def train_encoder(context: StageContext, G: Generator, lpips_vgg: nn.Module) -> Encoder:
    """Train E or resume its training, with curve and pictures; writes E.safetensors and stats.jsonl."""
    params, seed = context.params.encoder, context.params.seed
    seed_everything(seed, "encoder", "init")
    widths = {name: getattr(params, name) for name in ("channel_base", "channel_max", "pyramid_width")}
    widths["head_width"] = params.channel_max
    E = Encoder(img_resolution=G.img_resolution, num_ws=G.num_ws, w_dim=G.w_dim, **widths)
    E.start_at(G.w_avg.cpu())
    watched = load_split(context.input("data") / "val.zip", min(SNAPSHOT_IMAGES, params.val_images))
    watched_float = to_float(watched).to(context.device)

    def on_snapshot(cur_nimg: int) -> dict[str, float]:
        fakes = G.synthesis(E(watched_float), noise_mode="const")
        losses = reconstruction_loss(lpips_vgg(fakes, watched_float), l2_distance(fakes, watched_float))
        name = f"reconstructions{round(cur_nimg / 1000):06d}"
        picture = labelled_grid({"input": watched, "encoder": to_uint8(fakes).cpu()}, scale=2)
        context.run.log_image(save_png(context.work / f"{name}.png", picture), name)
        return {f"val{len(watched)}_loss": losses.mean().item()}

    images = load_split(training_folder(context) / "train.zip")
    training = encoder_training(E, G, lpips_vgg, images, params, seed=seed, device=context.device)
    rows = train(training, context.run, context.work, on_snapshot=on_snapshot)
    path = save_encoder(context.out / "E.safetensors", E)
    write_bytes(context.out / CURVE_FILE, (context.work / CURVE_FILE).read_bytes())
    for table in ("sample", "real", "val"):  # losses on samples, on real images and on validation heads
        names = sorted({name for row in rows for name in row if name.startswith(table)})
        if names:
            write_curve(context.out / "curves" / f"{table}.json", rows, names)
    return load_encoder(path, context.device)


def embed(
    context: StageContext, G: Generator, E: Encoder, lpips_vgg: nn.Module, sets: dict[str, Tensor]
) -> dict[str, Tensor]:
    """Invert every set of uint8 images batch by batch; finished batches are cached in the work folder."""
    params, total, done = context.params.encoder, sum(len(images) for images in sets.values()), 0
    options = dict(steps=params.inversion_steps, batch=INVERSION_BATCH, lr=params.inversion_lr)
    latents: dict[str, Tensor] = {}
    for name, images in sets.items():
        parts = []
        for chunk in images.split(INVERSION_BATCH):
            path = context.work / "latents" / f"{name}_{len(parts) * INVERSION_BATCH:05d}.safetensors"
            floats = to_float(chunk).to(context.device)
            parts.append(once(path, partial(invert, G, E, lpips_vgg, floats, **options)))
            done += len(chunk)
            context.run.progress(done, total, "img", f"embedding {name}")
        latents[name] = torch.cat(parts)  # [N, num_ws, w_dim]
    return latents


def measure(reals: Tensor, fakes: Tensor, lpips_vgg: nn.Module, device: torch.device) -> dict[str, float]:
    """Mean LPIPS (VGG) and L2 between reconstructions and originals; names contain the number of images.

    Both are training losses of the encoder, so they are for development only. The benchmark uses networks that are
    not trained against: LPIPS (AlexNet) and identity.
    """
    distances = {"lpips_vgg": lpips_vgg, "l2": mean_squared_error}
    values = {
        name: in_batches(one, reals, fakes, batch=MEASURE_BATCH, device=device) for name, one in distances.items()
    }
    return {f"{name}_val{len(reals)}": round(x.double().mean().item(), DIGITS) for name, x in values.items()}
