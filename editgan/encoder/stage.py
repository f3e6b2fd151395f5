"""Stage `encoder`: train E, embed the labelled, validation and test heads, measure the reconstructions."""

import json
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from editgan.assets.load import load_network
from editgan.assets.networks.winograd import use_winograd
from editgan.data.archive import load_images
from editgan.data.training import training_folder
from editgan.encoder.encoder import Encoder, load_encoder, load_latents, save_encoder, save_latents
from editgan.encoder.inversion import invert
from editgan.encoder.losses import l2_distance, reconstruction_loss
from editgan.encoder.train import train_encoder
from editgan.errors import UserError
from editgan.generator.generator import Generator, load_generator
from editgan.generator.principal_components import load_code
from editgan.images import labelled_grid, mean_squared_error, save_png, to_float, to_uint8
from editgan.runtime.stage import StageContext
from editgan.training import append_row, count_parameters, seed_everything
from editgan.weights import load_tensors, save_tensors, write_bytes, write_json

SNAPSHOT_IMAGES = 16  # validation heads for the curve, which uses the training losses, no judge
PICTURE_ROWS = 12  # validation heads in reconstructions.png
MEASURE_BATCH = 20
DIGITS = 6  # digits written; coarser than rounding differences between runs
INVERSION_BATCH = 16  # images at a time


def run(context: StageContext) -> None:
    """Train, embed, measure. Training and embedding resume where an interrupted run stopped."""
    params, data = context.params.encoder, context.input("data")
    G = load_generator(context.input("generator") / "G_ema.safetensors", context.device)
    if G.img_resolution != context.params.resolution:
        raise UserError(
            f"resolution {context.params.resolution}: the generator produces {G.img_resolution} px images;"
            " run stage generator again"
        )
    lpips_vgg = use_winograd(load_network("lpips_vgg", context.input("assets")))
    lpips_vgg = lpips_vgg.to(context.device, memory_format=torch.channels_last)

    E = train(context, G, lpips_vgg)
    sets = {
        "few_shot": load_split(data / "pool.zip", context.params.data.few_shot),
        "val": load_split(data / "val.zip", params.val_images),
        "test": load_split(data / "test.zip"),
    }
    latents = embed(context, G, E, lpips_vgg, sets)
    reals = to_float(sets["val"])
    latents["val_encoder"] = encode(E, reals, context.device)
    path = save_latents(context.out / "latents.safetensors", latents, params.inversion_steps)
    latents = load_latents(path)

    stages = {"encoder": latents["val_encoder"], f"encoder_{params.inversion_steps}_steps": latents["val"]}
    reconstructions = {name: reconstruct(G, w_plus, context.device) for name, w_plus in stages.items()}
    metrics = measure(reals, reconstructions, lpips_vgg, context.device)
    metrics["parameters_E"] = count_parameters(E)
    write_json(context.out / "metrics.json", metrics)

    columns = {"input": reals} | reconstructions
    picture = labelled_grid({name: to_uint8(images[:PICTURE_ROWS]) for name, images in columns.items()}, scale=2)
    save_png(context.out / "reconstructions.png", picture)
    context.run.log_metrics({f"{row}_{name}": v for row in stages for name, v in metrics[row].items()})
    context.run.log_image(context.out / "reconstructions.png", "reconstructions")


def load_split(path: Path, number: int | None = None) -> Tensor:
    """The first `number` images of an archive, or all: uint8 [N, 3, H, W]."""
    return torch.as_tensor(load_images(path, None if number is None else range(number)))


def train(context: StageContext, G: Generator, lpips_vgg: nn.Module) -> Encoder:
    """Train E or resume its training, with curve and pictures; writes E.safetensors and stats.jsonl."""
    params, data, seed = context.params.encoder, context.input("data"), context.params.seed
    seed_everything(seed, "encoder", "init")
    widths = {name: getattr(params, name) for name in ("channel_base", "channel_max", "pyramid_width")}
    widths["head_width"] = params.channel_max
    E = Encoder(img_resolution=G.img_resolution, num_ws=G.num_ws, w_dim=G.w_dim, **widths)
    code = load_code(context.input("generator") / "code.safetensors")
    E.start_at(G.w_avg.cpu(), code)
    total_nimg, curve = round(params.kimg * 1000), context.work / "stats.jsonl"
    watched = load_split(data / "val.zip", min(SNAPSHOT_IMAGES, params.val_images))
    watched_float = to_float(watched).to(context.device)

    def on_status(cur_nimg: int, status: dict[str, float]) -> None:
        kimg = cur_nimg / 1000
        context.run.log_metrics(status, step=kimg)
        context.run.progress(min(cur_nimg, total_nimg), total_nimg, "img", "training E")
        row = {"kimg": kimg} | {name: round(v, DIGITS) for name, v in status.items() if name != "img_per_s"}
        append_row(curve, row)

    def on_snapshot(cur_nimg: int, E: Encoder) -> dict[str, float]:
        fakes = G.synthesis(E(watched_float), noise_mode="const")
        losses = reconstruction_loss(lpips_vgg(fakes, watched_float), l2_distance(fakes, watched_float))
        name = f"reconstructions{round(cur_nimg / 1000):06d}"
        picture = labelled_grid({"input": watched, "encoder": to_uint8(fakes).cpu()}, scale=2)
        context.run.log_image(save_png(context.work / f"{name}.png", picture), name)
        return {f"val{len(watched)}_loss": losses.mean().item()}

    train_encoder(
        E,
        G,
        lpips_vgg,
        load_split(training_folder(context) / "train.zip"),
        params,
        seed=seed,
        work=context.work,
        device=context.device,
        on_status=on_status,
        on_snapshot=on_snapshot,
    )
    path = save_encoder(context.out / "E.safetensors", E)
    write_bytes(context.out / "stats.jsonl", curve.read_bytes())
    for name, rows in curves([json.loads(line) for line in curve.read_text().splitlines()]).items():
        write_json(context.out / "curves" / f"{name}.json", rows)
    return load_encoder(path, code, context.device)


def curves(history: list[dict[str, float]]) -> dict[str, list[dict[str, float]]]:
    """stats.jsonl as plot tables: losses on samples, on real images and on validation heads; first column kimg."""
    tables = {}
    for table in ("sample", "real", "val"):
        names = sorted({name for row in history for name in row if name.startswith(table)})
        rows = [row for row in history if names and all(name in row for name in names)]
        if rows:
            tables[table] = [{name: row[name] for name in ("kimg", *names)} for row in rows]
    return tables


def embed(
    context: StageContext, G: Generator, E: Encoder, lpips_vgg: nn.Module, sets: dict[str, Tensor]
) -> dict[str, Tensor]:
    """Invert every set of uint8 images batch by batch; finished batches are cached in the work folder."""
    total, done = sum(len(images) for images in sets.values()), 0
    latents: dict[str, Tensor] = {}
    for name, images in sets.items():
        parts = []
        for start in range(0, len(images), INVERSION_BATCH):
            chunk = images[start : start + INVERSION_BATCH]
            path = context.work / "latents" / f"{name}_{start:05d}.safetensors"
            parts.append(once(path, lambda chunk=chunk: embed_batch(context, G, E, lpips_vgg, chunk)))
            done += len(chunk)
            context.run.progress(done, total, "img", f"embedding {name}")
        latents[name] = torch.cat(parts)  # [N, num_ws, w_dim]
    return latents


def once(path: Path, compute: Callable[[], Tensor]) -> Tensor:
    """Load the tensor from `path`, or compute it and save it there."""
    if not path.exists():
        save_tensors(path, {"w_plus": compute()})
    return load_tensors(path)[0]["w_plus"]


def embed_batch(context: StageContext, G: Generator, E: Encoder, lpips_vgg: nn.Module, images: Tensor) -> Tensor:
    """uint8 [N, 3, H, W] -> w_plus [N, num_ws, w_dim]."""
    params = context.params.encoder
    return invert(
        G,
        E,
        lpips_vgg,
        to_float(images).to(context.device),
        steps=params.inversion_steps,
        batch=INVERSION_BATCH,
        lr=params.inversion_lr,
    )


@torch.no_grad()
def encode(E: Encoder, images: Tensor, device: torch.device) -> Tensor:
    """The encoder's outputs on the CPU: [N, num_ws, w_dim]."""
    return torch.cat([E(part.to(device)).cpu() for part in images.split(MEASURE_BATCH)])


@torch.no_grad()
def reconstruct(G: Generator, w_plus: Tensor, device: torch.device) -> Tensor:
    """G(w_plus) on the CPU, clamped to [-1, 1]: [N, 3, H, W]."""
    parts = [
        G.synthesis(part.to(device), noise_mode="const").clamp(-1, 1).cpu() for part in w_plus.split(MEASURE_BATCH)
    ]
    return torch.cat(parts)


@torch.no_grad()
def measure(
    reals: Tensor, reconstructions: dict[str, Tensor], lpips_vgg: nn.Module, device: torch.device
) -> dict[str, dict[str, float]]:
    """LPIPS (VGG) and L2 between each reconstruction and its original.

    Both are training losses of the encoder, so they are for development only. The benchmark uses networks that are
    not trained against: LPIPS (AlexNet) and identity. The name of each metric contains the number of images.
    """

    def pairs(distance: Callable[[Tensor, Tensor], Tensor], fakes: Tensor) -> float:
        parts = zip(reals.split(MEASURE_BATCH), fakes.split(MEASURE_BATCH), strict=True)
        values = torch.cat([distance(x.to(device), y.to(device)).cpu() for x, y in parts])  # [N]
        return round(values.double().mean().item(), DIGITS)

    count = len(reals)
    return {
        name: {f"lpips_vgg_val{count}": pairs(lpips_vgg, fakes), f"l2_val{count}": pairs(mean_squared_error, fakes)}
        for name, fakes in reconstructions.items()
    }
