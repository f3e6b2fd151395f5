"""Stage `generator`: trains StyleGAN2 on the rendered heads."""

import torch

from editgan.assets.load import load_network
from editgan.assets.networks.winograd import use_winograd
from editgan.data.archive import load_images
from editgan.errors import UserError
from editgan.generator.origin import load_origin
from editgan.generator.train import train
from editgan.stage import StageContext
from editgan.training import count_parameters
from editgan.weights import save_module, write_json


def run(context: StageContext) -> None:
    """train.zip -> {G_ema,D,code}.safetensors, stats.jsonl, curves/*.json, snapshots/*.png, metrics.json."""
    params, resolution = context.params.generator, context.params.resolution
    archive = context.input("data") / "train.zip"
    images = torch.from_numpy(load_images(archive))  # uint8 [N, 3, res, res]
    if images.shape[2:] != (resolution, resolution):
        size = f"{images.shape[3]}x{images.shape[2]}"
        raise UserError(f"{archive}: images are {size}, but resolution is {resolution}; run stage data again")
    origin = None if params.start_from is None else load_origin(params, resolution, context.root)
    generator_ema, discriminator, code, statistics = train(
        params=params,
        origin=origin,
        resolution=resolution,
        seed=context.params.seed,
        images=images,
        lpips_vgg=use_winograd(load_network("lpips_vgg", context.input("assets"))).to(context.device),
        device=context.device,
        out=context.out,
        work=context.work,
        run=context.run,
        compile=context.params.runtime.compile,
    )
    extra = {"kimg": statistics["kimg"], "recipe": params.recipe}
    save_module(context.out / "G_ema.safetensors", generator_ema, generator_ema.config, extra)
    save_module(context.out / "D.safetensors", discriminator, discriminator.config, extra)
    save_module(context.out / "code.safetensors", code, code.config, extra)
    sizes = {"parameters_G": count_parameters(generator_ema), "parameters_D": count_parameters(discriminator)}
    write_json(context.out / "metrics.json", statistics | sizes)
