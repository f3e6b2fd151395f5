"""Inputs of the commands: pictures of any size, folders of pictures, or latents. All are read before any computation.

A picture of exactly the model's size is used as it is. A picture of any other size is treated as a photo: its faces are
detected and aligned like the rendered heads (`editgan.data.photo`). Of a class without faces it must be square.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from editgan.assets.load import load_network
from editgan.data.photo import Face, chosen, crop_face, find_faces, read_photo, whole
from editgan.decoding import ENDINGS
from editgan.editor.editor import Editor
from editgan.editor.loading import require_segmentation
from editgan.errors import UserError
from editgan.images import square_mask
from editgan.weights import load_tensors, read_metadata, sha256

LATENTS = ".safetensors"
RESULT = re.compile(r"(.+?)_(?:mask|overlay|embedded|aligned|edited|edited_overlay|strip|samples)(?:-\d+)?")
Say = Callable[[str], None]


@dataclass(frozen=True)
class Input:
    """One image to edit: the name for its results, its file, and for a photo the face in it.

    `alpha` is the transparency of an aligned picture, uint8 [H, W]. `record` is what its latents record: the hash of
    the picture, the number of the face, and the hash of the generator.
    """

    name: str
    path: Path
    face: Face | None = None
    alpha: Tensor | None = None
    record: dict[str, Any] = field(default_factory=dict)


def read_pictures(
    paths: Sequence[Path], editor: Editor, number: int | None = 1, say: Say = print
) -> tuple[list[Input], Tensor]:
    """Read pictures as images of the model's size, transparency put on white; photos are cropped to their faces.

    Args:
        editor: tells the model's size, and whether its pictures are faces
        number: which face of a photo, 1 being the largest; None: all faces
        say: gets remarks on how a picture was read
    Returns:
        the inputs and one image for each, uint8 [N, 3, H, W], H = W = G.img_resolution
    Raises:
        UserError: pictures cannot be read or do not show the requested face; the message lists all of them.
    """
    inputs, images, faults, detector = [], [], [], None
    side, has_faces = editor.G.img_resolution, editor.protocol.faces
    for path in paths:
        try:
            photo = read_photo(path)
            for note in photo.notes:
                say(f"{path}: {note}")
            record = {"picture_sha256": sha256(path)}
            if photo.pixels.shape[1:] == (side, side):
                if number not in (None, 1):
                    raise UserError(f"{path}: is an aligned face ({side}x{side}); --face {number} needs a whole photo")
                inputs.append(Input(path.stem, path, alpha=photo.alpha, record=record))
                images.append(photo.seen())
                continue
            if has_faces:
                detector = detector or load_network("blazeface", editor.assets)
                faces = chosen(find_faces(detector, photo), number, str(path))
            else:
                faces = chosen([whole(photo, str(path))], number, str(path))
        except UserError as fault:
            hint = f" (an aligned face must be {side}x{side})" if "no face was found" in str(fault) else ""
            faults.append(f"{fault}{hint}")
            continue
        for index, face in enumerate(faces, number or 1):
            name = path.stem if number is not None or not has_faces else f"{path.stem}_face{index}"
            inputs.append(Input(name, path, face, record=record | {"face": index}))
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
        tensors, record = load_tensors(path)
        if set(tensors) != {"w_plus"}:
            raise UserError(f"{path}: contains {', '.join(sorted(tensors))}, not latents written by `embed`")
        if tensors["w_plus"].shape != shape:
            raise UserError(f"{path}: has shape {list(tensors['w_plus'].shape)}, this generator takes {list(shape)}")
        if editor.origin is not None:
            editor.origin.check(path, record.get("generator", ""))
        latents.append(tensors["w_plus"])
    return torch.cat(latents)


def recorded_latents(inputs: Sequence[Input], folders: Iterable[Path], editor: Editor) -> list[list[Path]]:
    """The latents in these folders that record the picture of each input, its face, and the editor's generator.

    Those named after the input come first, because equal pictures have equal records.
    """
    records = {path: read_metadata(path) for folder in folders for path in sorted(folder.glob(f"*{LATENTS}"))}
    found = []
    for one in inputs:
        same = [path for path, record in records.items() if record == recorded(one, editor)]
        found.append(sorted(same, key=lambda path: not path.stem.startswith(one.name)))  # noqa: B023
    return found


def recorded(one: Input, editor: Editor) -> dict[str, Any]:
    """What the latents of an input record; what the file says, if it is latents itself."""
    if one.path.suffix == LATENTS:
        return one.record
    return one.record | ({"generator": editor.origin.sha256} if editor.origin is not None else {})


def nearest_latents(masks: Tensor, candidates: Sequence[Sequence[Path]], editor: Editor) -> list[Path | None]:
    """Of the latents of each picture those whose segmentation is nearest to its painted mask; None: it has none."""
    found: list[Path | None] = []
    for mask, paths in zip(masks, candidates, strict=True):
        if len(paths) > 1:
            editor.set_latents(read_latents(paths, editor))
            paths = [paths[int((editor.segment() != mask).flatten(1).sum(1).argmin())]]
        found.append(paths[0] if paths else None)
    return found


def files_in(path: Path, say: Say = print) -> list[Path]:
    """The file itself, or the sorted pictures of a folder; the latents if the folder has no pictures.

    Every file that is left out is named, with the reason: results of these commands (NAME_mask.png beside the latents
    of NAME), latents beside pictures, folders, and other files.

    Raises:
        UserError: the path does not exist, or the folder has neither pictures nor latents.
    """
    if not path.is_dir():
        if not path.exists():
            raise UserError(f"{path}: no such file or folder")
        return [path]
    everything = sorted(path.iterdir())
    latents = [one for one in everything if one.suffix == LATENTS and one.is_file()]
    pictures = [one for one in everything if one.suffix.lower() in ENDINGS and one.is_file()]
    results = [one for one in pictures if is_result(one, latents)]
    sources = [one for one in pictures if one not in results]
    if not sources and not latents:
        raise UserError(f"{path}: has neither pictures ({', '.join(ENDINGS)}) nor latents ({LATENTS})")
    used = sources or latents
    reasons = {
        "results of earlier commands": results,
        "latents beside pictures": latents if sources else [],
        "not pictures": [one for one in everything if one not in pictures and one not in latents],
    }
    for reason, left_out in reasons.items():
        if left_out:
            say(f"{path}: left out ({reason}): {', '.join(one.name for one in left_out)}")
    return used


def is_result(picture: Path, latents: Sequence[Path]) -> bool:
    """Whether a picture of a folder is named like the result of a command, and the folder has its latents."""
    matched = RESULT.fullmatch(picture.stem)
    if matched is None:
        return False
    made = {re.sub(r"-\d+$", "", one.stem) for one in latents}
    name = matched[1]
    return bool(made & {name, f"{name}_edited"}) or any(re.match(rf"{re.escape(name)}_face\d", one) for one in made)


def masks_of(pictures: Sequence[Path], mask: Path) -> list[Path]:
    """The mask of each picture: NAME_mask.png (or the only NAME_mask-2.png, ...) if `mask` is a folder.

    Raises:
        UserError: masks are missing, a picture has several, or one mask is given for several pictures.
    """
    if not mask.is_dir():
        if len(pictures) > 1:
            raise UserError(f"{mask}: one mask for {len(pictures)} pictures; give the folder of their masks")
        return [mask]
    masks, missing = [], []
    for picture in pictures:
        name = re.compile(rf"{re.escape(picture.stem)}_mask(-\d+)?\.png")
        found = sorted(one for one in mask.iterdir() if name.fullmatch(one.name))
        if len(found) > 1:
            listed = ", ".join(one.name for one in found)
            raise UserError(f"{mask}: has several masks of {picture.name} ({listed}); give one by its name")
        masks += found
        missing += [] if found else [str(mask / f"{picture.stem}_mask.png")]
    if missing:
        raise UserError(f"no such mask: {', '.join(missing)}; `editgan segment` writes masks")
    return masks


def read_masks(paths: Sequence[Path], editor: Editor, say: Say = print) -> Tensor:
    """Read painted masks as part labels; `say` gets remarks on how they were read.  # uint8 [N, H, W]

    Raises:
        UserError: a mask is missing, invalid, or not square; or the generator has no segmentation yet.
    """
    require_segmentation(editor.S)
    masks = []
    for path in paths:
        mask = square_mask(path, editor.G.img_resolution, len(editor.class_names), editor.palette.numpy())
        for note in mask.notes:
            say(f"{path}: {note}")
        masks.append(torch.from_numpy(mask.labels))
    return torch.stack(masks)


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
