"""Stage `generator`: train StyleGAN2 on the training split."""

from pathlib import Path

import torch
from torch import Tensor, nn

from editgan.assets.load import load_network
from editgan.assets.networks.winograd import use_winograd
from editgan.data.archive import load_images
from editgan.data.training import training_folder
from editgan.errors import UserError
from editgan.generator import state
from editgan.generator.generator import load_generator
from editgan.generator.losses import mean_w
from editgan.generator.origin import origin_folder
from editgan.generator.parallel import Ranks, choose_processes, train_together
from editgan.generator.params import GeneratorParams
from editgan.generator.snapshots import Recorder, curves
from editgan.generator.train import BEST_FILE, Networks, train
from editgan.runtime.precision import choose_precision
from editgan.runtime.stage import StageContext
from editgan.training import count_parameters, load_state
from editgan.weights import save_module, write_json


def run(context: StageContext) -> None:
    """train.zip -> {G_ema,D}.safetensors, stats.jsonl, curves/*.json, snapshots/*.png, metrics.json.

    Trains in several processes. G_ema is the snapshot with the lowest KID by VGG16; D is that of the end.
    """
    params, runtime, seed = context.params.generator, context.params.runtime, context.params.seed
    folder = state.state_folder(runtime.training, root=context.root, work=context.work)
    light = None if runtime.training is None else state.light_path(runtime.training, root=context.root)
    world = choose_processes(runtime.processes, device=context.device, batch=params.batch, group=params.mbstd_group)
    resumed = load_state(folder) or {} if runtime.precision == "auto" else {}  # "auto" keeps that of the state
    precision = resumed.get("precision") or choose_precision(context.device, runtime.precision)
    print(f"generator: {world} processes, {precision}", flush=True)
    archive = training_folder(context) / "train.zip"
    images = read_images(archive, context.params.resolution)
    recorder = Recorder(
        out=context.out,
        work=folder,
        run=context.run,
        lpips_vgg=use_winograd(load_network("lpips_vgg", context.input("assets"))).to(context.device),
        reals=images,
        seed=seed,
        kid_images=params.kid_images,
        device=context.device,
    )
    origin = origin_folder(params, context.root)
    shared = (params, context.params.resolution, seed, context.device.type, precision, folder, light, origin)
    networks = train_together(
        lambda ranks: train_rank(ranks, *shared, images, context.input("assets"), recorder),
        helper=train_helper,
        arguments=(*shared, archive, context.input("assets")),
        world=world,
        device=context.device,
    )
    recorder.keep_pictures()
    for name, rows in curves(recorder.history).items():
        write_json(context.out / "curves" / f"{name}.json", rows)
    best = load_generator(folder / BEST_FILE)
    best.w_avg.copy_(mean_w(best, seed))
    kimg = min((row[recorder.kid_name], row["kimg"]) for row in recorder.history if recorder.kid_name in row)[1]
    for name, network, of in (("G_ema", best, kimg), ("D", networks.D, recorder.history[-1]["kimg"])):
        save_module(context.out / f"{name}.safetensors", network, network.config, {"kimg": of, "recipe": params.recipe})
    sizes = {"parameters_G": count_parameters(best), "parameters_D": count_parameters(networks.D)}
    write_json(context.out / "metrics.json", recorder.history[-1] | sizes | {"best_kimg": kimg})


def train_rank(
    ranks: Ranks,
    params: GeneratorParams,
    resolution: int,
    seed: int,
    device_type: str,
    precision: str,
    folder: Path,
    light: Path | None,
    origin: Path | None,
    images: Tensor,
    assets: Path,
    recorder: Recorder | None = None,
) -> Networks:
    """The training of one rank."""
    backbone: nn.Module | None = load_network("efflite1", assets) if params.projected_weight > 0 else None
    device = torch.device(device_type, ranks.rank) if device_type == "cuda" else torch.device(device_type)
    return train(
        ranks,
        params=params,
        resolution=resolution,
        seed=seed,
        images=images,
        backbone=backbone,
        device=device,
        precision=precision,
        folder=folder,
        light=light,
        origin=origin,
        recorder=recorder,
    )


def train_helper(ranks: Ranks, *arguments) -> None:
    """The training of a rank above 0, which reads the images itself and writes nothing."""
    *shared, archive, assets = arguments
    train_rank(ranks, *shared, read_images(archive, shared[1]), assets)


def read_images(archive: Path, resolution: int) -> Tensor:
    """Read the images of an archive.  # uint8 [N, 3, resolution, resolution]

    Raises:
        UserError: images of another size.
    """
    images = torch.from_numpy(load_images(archive))
    if images.shape[2:] != (resolution, resolution):
        size = f"{images.shape[3]}x{images.shape[2]}"
        raise UserError(f"{archive}: images are {size}, but resolution is {resolution}; run stage data again")
    return images
