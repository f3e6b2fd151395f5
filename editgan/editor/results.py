"""Result files of the commands: latents, pictures and comparison strips, named after the inputs.

No file is ever replaced: where another one has its name, a result is written beside it (`write_beside`).
"""

import hashlib
from collections.abc import Sequence
from math import ceil, sqrt
from pathlib import Path
from typing import Any

from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate

from editgan.data.photo import Photo, crop_face, read_photo
from editgan.editor.edited import Edited
from editgan.editor.editor import Editor
from editgan.editor.inputs import LATENTS, Input, recorded
from editgan.images import colourize, image_grid, labelled_grid, mask_to_pil, overlay, png_bytes, to_pil
from editgan.weights import tensor_bytes, write_beside

STRIP = 256  # side of each image in the strip of a photo's face, in pixels


def write_png(path: Path, picture: Image.Image) -> Path:
    """Write a PNG beside what is there."""
    return write_beside(path, png_bytes(picture))


def write_latents(w_plus: Tensor, names: Sequence[str], records: Sequence[dict[str, Any]], out: Path) -> None:
    """Write NAME.safetensors with a record of the picture and the generator."""
    for name, record, one in zip(names, records, w_plus.cpu(), strict=True):
        write_beside(out / f"{name}{LATENTS}", tensor_bytes({"w_plus": one[None]}, record))


def write_pictures(images: Tensor, names: Sequence[str], out: Path, suffix: str = "") -> None:
    """Write NAME.png, or NAME_SUFFIX.png."""
    for name, image in zip(names, images, strict=True):
        write_png(out / f"{name}{suffix and '_'}{suffix}.png", to_pil(image))


def write_masks(masks: Tensor, names: Sequence[str], out: Path, palette: Tensor) -> None:
    """Write NAME_mask.png, indexed: pixel values are part labels."""
    for name, mask in zip(names, masks, strict=True):
        write_png(out / f"{name}_mask.png", mask_to_pil(mask, palette.numpy()))


def write_samples(editor: Editor, images: Tensor, names: Sequence[str], out: Path) -> Path:
    """Write samples, their latents, and all of them as one roughly square grid, FIRST_samples.png.

    The name of the grid starts with that of the first latents, so commands that read the folder skip it (`files_in`).
    """
    hashes = [hashlib.sha256(png_bytes(to_pil(image))).hexdigest() for image in images]
    inputs = [Input(name, out / name, record={"picture_sha256": one}) for name, one in zip(names, hashes, strict=True)]
    write_latents(editor.w_plus, names, [recorded(one, editor) for one in inputs], out)
    write_pictures(images, names, out)
    return write_png(out / f"{names[0]}_samples.png", image_grid(images, columns=ceil(sqrt(len(images)))))


def write_edit(
    editor: Editor,
    edited: Edited,
    inputs: Sequence[Input],
    out: Path,
    paste_back: bool,
    painted: Tensor | None = None,
) -> None:
    """Write NAME_edited.png, NAME_edited.safetensors, NAME_edited_overlay.png (edited mask over edited picture), and
    NAME_strip.png: photo, embedded, its mask, the painted mask, edited, its mask, result. Without a segmentation,
    overlay and masks are left out.

    For a photo, the edited picture is the whole photo with all edited faces. Transparency is kept.

    Args:
        painted: masks that were painted, uint8 [N, H, W]; None: vectors were applied
    """
    before, parts = editor.reconstruct(), bool(editor.class_names)
    columns = {} if editor.photos is None else {"photo": editor.photos}
    columns |= {"embedded": before} | ({"mask": colourize(editor.segment(), editor.palette)} if parts else {})
    columns |= {} if painted is None else {"painted": colourize(painted, editor.palette)}
    columns |= {"edited": edited.images} | ({"its mask": colourize(edited.masks, editor.palette)} if parts else {})
    result = edited.images
    if paste_back:
        result = columns["pasted back"] = editor.paste(edited)
    names = [one.name for one in inputs]
    records = [{"edited_from": one.record.get("picture_sha256", "")} for one in inputs]
    generator = {} if editor.origin is None else {"generator": editor.origin.sha256}
    write_latents(edited.w_plus, [f"{name}_edited" for name in names], [one | generator for one in records], out)
    if parts:
        write_pictures(overlay(edited.images, edited.masks, editor.palette), names, out, "edited_overlay")
    for index, one in enumerate(inputs):
        if one.face is None:
            write_png(out / f"{one.name}_edited.png", Photo(result[index], one.alpha).to_pil())
            strip = labelled_grid({caption: stack[index : index + 1] for caption, stack in columns.items()})
            write_png(out / f"{one.name}_strip.png", strip)
    for path in dict.fromkeys(one.path for one in inputs if one.face is not None):
        faces = {index: one.face for index, one in enumerate(inputs) if one.path == path}
        photo = read_photo(path)
        changed = editor.blend(edited, photo, faces)
        write_png(out / f"{path.stem}_edited.png", changed.to_pil())
        for index, face in faces.items():
            wide = {caption: interpolate(stack[index : index + 1], size=STRIP) for caption, stack in columns.items()}
            wide["photo"] = crop_face(photo, face, STRIP)[None]
            wide["result"] = crop_face(changed, face, STRIP)[None]
            write_png(out / f"{names[index]}_strip.png", labelled_grid(wide, scale=1))


def show_faces(editor: Editor, inputs: Sequence[Input], out: Path) -> list[tuple[str, str | None]]:
    """Write the aligned faces of photos and their reconstructions: NAME_aligned.png, NAME_embedded.png.

    Returns:
        for each face a line with the quality of its reconstruction, and a warning if the model cannot represent it
    """
    faces = [index for index, one in enumerate(inputs) if one.face is not None]
    if not faces:
        return []
    names = [inputs[index].name for index in faces]
    write_pictures(editor.photos[faces], names, out, "aligned")
    write_pictures(editor.reconstruct()[faces], names, out, "embedded")
    lines, all_found = [], editor.representation()
    for index in faces:
        one, found = inputs[index], all_found[index]
        where = f"aligned from {one.face.side:.0f} px of {one.path.name}"
        line = f"{one.name}: {where}; reconstruction {out / one.name}_embedded.png: {found.found}"
        lines.append((line, None if found.possible else f"{one.name}: {found}"))
    return lines
