"""Inputs of the commands: pictures of any size, folders of pictures, or latents. All are read before any computation.

A picture of exactly the model's size is treated as an aligned face. A picture of any other size is treated as a photo:
its faces are detected and aligned like the rendered heads (`editgan.data.photo`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from editgan.assets.load import load_network
from editgan.data.photo import Face, chosen, crop_face, find_faces, read_photo
from editgan.editor.editor import Editor
from editgan.errors import UserError
from editgan.images import read_mask
from editgan.weights import load_tensors

PICTURES = {".png", ".jpg", ".jpeg"}
LATENTS = ".safetensors"


@dataclass(frozen=True)
class Input:
    """One image to edit: the name for its results, its file, and for a photo the face in it."""

    name: str
    path: Path
    face: Face | None = None


def read_pictures(paths: Sequence[Path], side: int, assets: Path, number: int | None = 1) -> tuple[list[Input], Tensor]:
    """Read pictures as images of the model's size; photos are cropped to their faces.

    Args:
        side: the model's size
        assets: folder of the pretrained networks
        number: which face of a photo, 1 being the largest; None: all faces
    Returns:
        the inputs and one image for each, uint8 [N, 3, side, side]
    Raises:
        UserError: pictures cannot be read or do not show the requested face; the message lists all of them.
    """
    inputs, images, faults, detector = [], [], [], None
    for path in paths:
        try:
            photo = read_photo(path)
            if photo.pixels.shape[1:] == (side, side):
                if number not in (None, 1):
                    raise UserError(f"{path}: is an aligned face ({side}x{side}); --face {number} needs a whole photo")
                inputs.append(Input(path.stem, path))
                images.append(photo.pixels)
                continue
            detector = detector or load_network("blazeface", assets)
            faces = chosen(find_faces(detector, photo), number, str(path))
        except UserError as fault:
            hint = f" (an aligned face must be {side}x{side})" if "no face was found" in str(fault) else ""
            faults.append(f"{fault}{hint}")
            continue
        for index, face in enumerate(faces, 1):
            name = path.stem if number is not None else f"{path.stem}_face{index}"
            inputs.append(Input(name, path, face))
            images.append(crop_face(photo, face, side))
    if faults:
        rest = f"\n{len(faults)} of {len(paths)} pictures cannot be used; nothing was done" if len(paths) > 1 else ""
        raise UserError("\n".join(faults) + rest)
    return inputs, torch.stack(images)


def read_latents(paths: Sequence[Path], editor: Editor) -> Tensor:
    """Read latents written by `embed`.  # [N, num_ws, w_dim]

    Raises:
        UserError: a file does not contain latents, or latents of another generator.
    """
    latents, shape = [], (1, editor.G.num_ws, editor.G.w_dim)
    for path in paths:
        tensors, _ = load_tensors(path)
        if set(tensors) != {"w_plus"}:
            raise UserError(f"{path}: contains {', '.join(sorted(tensors))}, not latents written by `embed`")
        if tensors["w_plus"].shape != shape:
            raise UserError(f"{path}: has shape {list(tensors['w_plus'].shape)}, this generator takes {list(shape)}")
        latents.append(tensors["w_plus"])
    return torch.cat(latents)


def files_in(path: Path) -> list[Path]:
    """The file itself, or the sorted pictures of a folder; the latents if the folder has no pictures.

    In a folder of results, pictures that belong to latents (NAME_mask.png to NAME.safetensors) are skipped.

    Raises:
        UserError: the path does not exist, or the folder has neither pictures nor latents.
    """
    if path.is_dir():
        latents = sorted(path.glob(f"*{LATENTS}"))
        found = sorted(one for one in path.iterdir() if one.suffix.lower() in PICTURES)
        found = [one for one in found if not any(one.stem.startswith(f"{made.stem}_") for made in latents)] or latents
        if not found:
            raise UserError(f"{path}: has neither pictures ({', '.join(sorted(PICTURES))}) nor latents ({LATENTS})")
        return found
    if not path.exists():
        raise UserError(f"{path}: no such file or folder")
    return [path]


def masks_of(pictures: Sequence[Path], mask: Path) -> tuple[list[Path], list[Path] | None]:
    """The mask of each picture (NAME_mask.png if `mask` is a folder), and the latents next to them, if all exist.

    Raises:
        UserError: masks are missing, or one mask is given for several pictures.
    """
    if mask.is_dir():
        masks = [mask / f"{picture.stem}_mask.png" for picture in pictures]
        missing = [str(one) for one in masks if not one.exists()]
        if missing:
            raise UserError(f"no such mask: {', '.join(missing)}; `editgan segment` writes masks")
    elif len(pictures) > 1:
        raise UserError(f"{mask}: one mask for {len(pictures)} pictures; give the folder of their masks")
    else:
        masks = [mask]
    latents = [one.with_name(one.stem.removesuffix("_mask") + LATENTS) for one in masks]
    return masks, latents if all(one.exists() for one in latents) else None


def read_masks(paths: Sequence[Path], editor: Editor) -> Tensor:
    """Read painted masks as part labels.  # uint8 [N, H, W]

    Raises:
        UserError: a mask is missing, invalid, or of another size.
    """
    options = dict(resolution=editor.G.img_resolution, classes=len(editor.class_names))
    return torch.stack([read_mask(path, palette=editor.palette.numpy(), **options) for path in paths])


def checked(inputs: list[Input]) -> list[Input]:
    """Return the inputs.

    Raises:
        UserError: two inputs have the same name, so their results would collide.
    """
    names = [one.name for one in inputs]
    doubles = sorted({name for name in names if names.count(name) > 1})
    if doubles:
        raise UserError(f"several inputs are named {doubles[0]}; results are named after the inputs, so rename one")
    return inputs
