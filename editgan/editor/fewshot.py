"""Train the segmentation of a generator on a few labelled pictures, outside the pipeline."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from editgan.data.archive import Classes, save_classes
from editgan.data.reading import read_one
from editgan.data.sources.folder import list_pictures
from editgan.editor.editor import Editor
from editgan.editor.inputs import LATENTS, read_latents
from editgan.editor.loading import CLASSES, ENSEMBLE
from editgan.errors import UserError
from editgan.segmentation.ensemble import load_segmentation
from editgan.segmentation.predict import features_of, segment
from editgan.segmentation.train import drop_small_labels, train_ensemble
from editgan.weights import save_module

MASK_SIDE = 256  # side of the masks to learn from; larger ones hold the same parts in more pixels
MIN_LABEL_PIXELS = 30  # of larger masks; smaller labels become background, as in stage segmentation
Progress = Callable[[int, int], None]


def read_labelled(folder: Path, side: int) -> tuple[list[Path], Tensor, Tensor, Classes]:
    """Labelled pictures of a folder in the layout of docs/data.md: images/, masks/, classes.json.

    Returns:
        files of the pictures that have a mask, images uint8 [N, 3, side, side], masks uint8 [N, side, side], classes
    Raises:
        UserError: no picture has a mask, or pictures or masks cannot be used; the message lists them.
    """
    listing = list_pictures(folder)
    faults = [f"{file}: {reason}" for file, reason in listing.rejected if not file.endswith(LATENTS)]
    items = [item for item in listing.items if item.masks]
    images, masks = [], []
    for item in items:
        picture, mask, record = read_one(item, root=folder, resolution=side, classes=listing.classes)
        if "reason" in record:
            faults.append(f"{item.file}: {record['reason']}")
            continue
        images.append(np.asarray(Image.open(io.BytesIO(picture))))
        masks.append(np.asarray(Image.open(io.BytesIO(mask))))
    if faults:
        raise UserError(f"{folder}: files cannot be used:\n" + "\n".join(f"  {fault}" for fault in faults))
    if not items:
        raise UserError(f"{folder}: no picture of images/ has a mask in masks/; docs/import.md describes the folder")
    pixels = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous()
    return [folder / item.file for item in items], pixels, torch.from_numpy(np.stack(masks)), listing.classes


def learn_segmentation(
    editor: Editor,
    folder: Path,
    outputs: Path,
    *,
    members: int = 10,
    epochs: int = 5,
    embedding: Progress | None = None,
    training: Progress | None = None,
) -> tuple[Path, float]:
    """Train S on labelled pictures; writes OUTPUTS/segmentation/S.safetensors and OUTPUTS/data/classes.json.

    A picture with latents beside it (NAME.safetensors, as `sample` and `embed` write them) is not embedded. Masks are
    reduced to at most 256 px, which bounds the time of training; the segmentation itself works at any size.

    Args:
        embedding, training: called with (done, total)
    Returns:
        path of S, and the share of labelled pixels that it predicts as labelled
    Raises:
        UserError: unusable pictures or masks, or the folder of outputs has a segmentation.
    """
    for path in (outputs / ENSEMBLE, outputs / CLASSES):
        if path.exists():
            raise UserError(f"{path}: exists already; remove it to train the segmentation again")
    files, images, masks, classes = read_labelled(folder, editor.G.img_resolution)
    w_plus = latents_of(editor, files, images, embedding)
    step = max(1, masks.shape[-1] // MASK_SIDE)
    small = drop_small_labels(masks, MIN_LABEL_PIXELS)[:, step // 2 :: step, step // 2 :: step].contiguous()
    _, features = features_of(editor.G, w_plus, editor.device)
    S = train_ensemble(
        features,
        small.to(editor.device),
        class_names=classes.names,
        members=members,
        epochs=epochs,
        report=None if training is None else lambda done, total, _: training(done, total),
    )
    recorded = {"generator": editor.origin.sha256} if editor.origin is not None else {}
    path = save_module(outputs / ENSEMBLE, S, S.config, recorded)
    (outputs / CLASSES).parent.mkdir(parents=True, exist_ok=True)
    save_classes(outputs / CLASSES, classes)
    predicted, *_ = segment(editor.G, load_segmentation(path, editor.device), w_plus, editor.device)
    return path, float((predicted == masks).double().mean())


def latents_of(editor: Editor, files: list[Path], images: Tensor, progress: Progress | None = None) -> Tensor:
    """Latents of pictures: those beside them, else embedded.  # [N, num_ws, w_dim]"""
    known = [file.with_suffix(LATENTS) for file in files]
    embed = [index for index, path in enumerate(known) if not path.is_file()]
    parts: dict[int, Tensor] = {}
    if embed:
        editor.set_image(images[embed], progress=progress)
        parts = dict(zip(embed, editor.w_plus, strict=True))
    for index, path in enumerate(known):
        if index not in parts:
            parts[index] = read_latents([path], editor)[0].to(editor.device)
    return torch.stack([parts[index] for index in range(len(files))])
