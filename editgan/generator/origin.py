"""Fine-tuning: load the networks of another run to continue training on other pictures."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from editgan.errors import UserError
from editgan.generator.discriminator import Discriminator
from editgan.generator.generator import Generator, load_generator
from editgan.generator.params import GeneratorParams
from editgan.generator.principal_components import PrincipalComponents, load_code
from editgan.runtime.environment import home_project
from editgan.weights import load_module, sha256


@dataclass(frozen=True)
class Origin:
    """The initial networks of a fine-tuning."""

    generator: Generator
    discriminator: Discriminator
    code: PrincipalComponents


def load_origin(params: GeneratorParams, resolution: int, root: Path) -> Origin:
    """Load the networks of the run `generator.start_from`.

    Raises:
        UserError: a file is missing or damaged, its hash differs, or its sizes differ from the params.
    """
    folder = home_project(root) / params.start_from
    path = folder / "G_ema.safetensors"
    if not path.exists():
        raise UserError(f"generator.start_from {params.start_from}: {path} is missing; run that pipeline first")
    if (found := sha256(path)) != params.start_from_sha256:
        raise UserError(f"{path}: sha256 is {found}, but generator.start_from_sha256 is {params.start_from_sha256}")
    generator = load_generator(path)
    discriminator = load_module(folder / "D.safetensors", Discriminator)
    sizes = {
        "img_resolution": resolution, "w_dim": params.w_dim, "channel_base": params.channel_base,
        "channel_max": params.channel_max, "num_mapping_layers": params.num_mapping_layers,
    }  # fmt: skip
    for network, name, asked in (
        (generator, "G_ema", sizes),
        (discriminator, "D", {"img_resolution": resolution, "channel_base": params.d_channel_base}),
    ):
        for key, value in asked.items():
            if network.config[key] != value:
                raise UserError(
                    f"{folder / name}.safetensors: was trained with {key} {network.config[key]}, but params have"
                    f" {value}; use the sizes of that run"
                )
    code = load_code(folder / "code.safetensors")
    if not code.components.any() and (params.warm_start.kimg or params.anchor_images):
        raise UserError(
            f"{folder / 'code.safetensors'}: that run had no warm start, so its code reconstructs nothing; set"
            " generator.warm_start.kimg to [] and anchor_images to 0"
        )
    return Origin(generator=generator, discriminator=discriminator, code=code)
