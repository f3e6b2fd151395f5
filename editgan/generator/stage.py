"""Stage `generator`: train StyleGAN2 on the training split."""

import shutil
from pathlib import Path

import torch
from torch import Tensor, nn

from editgan.assets.load import load_network
from editgan.assets.networks.winograd import use_winograd
from editgan.data.archive import load_images
from editgan.data.training import training_folder
from editgan.errors import UserError
from editgan.generator import state
from editgan.generator.foreign.files import described, read_networks, save_networks, source_of
from editgan.generator.generator import TRUNCATION_PSI, load_generator, synthesise
from editgan.generator.losses import mean_w
from editgan.generator.origin import origin_folder
from editgan.generator.parallel import Ranks, choose_processes, train_together
from editgan.generator.params import GeneratorParams
from editgan.generator.snapshots import Recorder, curves
from editgan.generator.train import BEST_FILE, Networks, train
from editgan.images import image_grid, save_png
from editgan.runtime.environment import home_project
from editgan.runtime.precision import choose_precision
from editgan.runtime.stage import StageContext
from editgan.training import count_parameters, generator_for, load_state
from editgan.weights import save_module, save_tensors, sha256, write_bytes, write_json

SHOWN = 8  # samples of an imported generator


def run(context: StageContext) -> None:
    """train.zip -> {G_ema,D}.safetensors, stats.jsonl, curves/*.json, snapshots/*.png, metrics.json.

    Trains in several processes. G_ema is the snapshot with the lowest KID by VGG16; D is that of the end.
    With `generator.from_file`, nothing is trained: the networks are those of that file.
    """
    if context.params.generator.from_file is not None:
        use_file(context)
        return
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


def use_file(context: StageContext) -> None:
    """The networks of `generator.from_file`, in the layout of a trained generator.

    Raises:
        UserError: the file is missing, has another hash, or its network has another resolution or cannot be used.
    """
    params, device = context.params.generator, context.device
    path = home_project(context.root) / params.from_file
    if params.start_from_sha256 is not None and path.is_file() and (found := sha256(path)) != params.start_from_sha256:
        raise UserError(f"{path}: sha256 is {found}, but generator.start_from_sha256 is {params.start_from_sha256}")
    networks = read_networks(path)
    G = networks.G_ema
    if G.img_resolution != context.params.resolution:
        raise UserError(f"{path}: makes images of {G.img_resolution} px, but resolution is {context.params.resolution}")
    source = source_of(path, networks)
    print("\n".join(f"generator: {line}" for line in (*described(networks), *networks.notes)), flush=True)
    for name in ("G_ema", "D"):
        (context.out / f"{name}.safetensors").unlink(missing_ok=True)
    if save_networks(networks, source, context.out)[1] is None:  # DVC expects the file
        save_tensors(context.out / "D.safetensors", {}, {"imported": source})
    z = torch.randn(SHOWN, G.z_dim, generator=generator_for(context.params.seed, "generator", "grid"))
    images = synthesise(G.to(device), G.mapping(z.to(device), TRUNCATION_PSI), batch=2)
    for folder in ("snapshots", "curves"):
        shutil.rmtree(context.out / folder, ignore_errors=True)
    picture = save_png(context.out / "snapshots" / "fakes000000.png", image_grid(images, SHOWN // 2))
    context.run.log_image(picture, "fakes000000")
    write_json(context.out / "curves" / "source.json", source)
    write_bytes(context.out / "stats.jsonl", b"")
    sizes = {"parameters_G": count_parameters(G)}
    sizes |= {} if networks.D is None else {"parameters_D": count_parameters(networks.D)}
    write_json(context.out / "metrics.json", sizes)


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
