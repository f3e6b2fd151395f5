"""Result files of the commands: latents, pictures and comparison strips, named after the inputs."""

from collections.abc import Sequence
from math import ceil, sqrt
from pathlib import Path

from torch import Tensor
from torch.nn.functional import interpolate

from editgan.data.photo import crop_face, read_photo
from editgan.editor.editor import Edited, Editor
from editgan.editor.inputs import LATENTS, Input, likenesses, usual_likeness
from editgan.errors import UserError
from editgan.images import colourize, image_grid, labelled_grid, overlay, save_png, to_pil
from editgan.weights import save_tensors

STRIP = 256  # side of each image in the strip of a photo's face, in pixels


def write_latents(w_plus: Tensor, names: Sequence[str], out: Path, suffix: str = "") -> None:
    """Write NAME.safetensors, or NAME_SUFFIX.safetensors."""
    for name, one in zip(names, w_plus.cpu(), strict=True):
        save_tensors(out / f"{name}{suffix and '_'}{suffix}{LATENTS}", {"w_plus": one[None]})


def write_pictures(images: Tensor, names: Sequence[str], out: Path, suffix: str = "") -> None:
    """Write NAME.png, or NAME_SUFFIX.png."""
    for name, image in zip(names, images, strict=True):
        save_png(out / f"{name}{suffix and '_'}{suffix}.png", to_pil(image))


def write_sheet(images: Tensor, names: Sequence[str], out: Path) -> Path:
    """Write all images as one roughly square grid, FIRST_samples.png.

    The name starts with that of the first latents, so commands that read the folder skip the grid (`files_in`).
    """
    return save_png(out / f"{names[0]}_samples.png", image_grid(images, columns=ceil(sqrt(len(images)))))


def write_edit(editor: Editor, edited: Edited, inputs: Sequence[Input], out: Path, paste_back: bool) -> None:
    """Write NAME_edited.png, NAME_edited.safetensors, NAME_edited_overlay.png (edited mask over edited picture), and
    NAME_strip.png: photo, embedded, its mask, edited, its mask, result.

    For a photo, the edited picture is the whole photo with all edited faces.
    """
    before, masks = editor.reconstruct(), editor.segment()
    columns = {} if editor.photos is None else {"photo": editor.photos}
    columns |= {"embedded": before, "mask": colourize(masks, editor.palette), "edited": edited.images}
    columns |= {"its mask": colourize(edited.masks, editor.palette)}
    result = edited.images
    if paste_back:
        result = columns["pasted back"] = editor.paste(edited)
    names = [one.name for one in inputs]
    write_latents(edited.w_plus, names, out, "edited")
    write_pictures(overlay(edited.images, edited.masks, editor.palette), names, out, "edited_overlay")
    for index, one in enumerate(inputs):
        if one.face is None:
            write_pictures(result[index : index + 1], [one.name], out, "edited")
            strip = labelled_grid({caption: stack[index : index + 1] for caption, stack in columns.items()})
            save_png(out / f"{one.name}_strip.png", strip)
    for path in dict.fromkeys(one.path for one in inputs if one.face is not None):
        faces = {index: one.face for index, one in enumerate(inputs) if one.path == path}
        photo = read_photo(path)
        changed = editor.blend(edited, photo, faces)
        save_png(out / f"{path.stem}_edited.png", changed.to_pil())
        for index, face in faces.items():
            wide = {caption: interpolate(stack[index : index + 1], size=STRIP) for caption, stack in columns.items()}
            wide["photo"] = crop_face(photo, face, STRIP)[None]
            wide["result"] = crop_face(changed, face, STRIP)[None]
            save_png(out / f"{names[index]}_strip.png", labelled_grid(wide, scale=1))


def show_faces(
    editor: Editor, inputs: Sequence[Input], images: Tensor, reconstructions: Tensor, outputs: Path, out: Path
) -> list[tuple[str, str | None]]:
    """Write the aligned faces of photos and their reconstructions: NAME_aligned.png, NAME_embedded.png.

    Returns:
        for each face a line with the quality of its reconstruction, and a warning if the model cannot represent it
    """
    faces = [index for index, one in enumerate(inputs) if one.face is not None]
    if not faces:
        return []
    names = [inputs[index].name for index in faces]
    write_pictures(images[faces], names, out, "aligned")
    write_pictures(reconstructions[faces], names, out, "embedded")
    try:
        usual, unknown = usual_likeness(editor, outputs), ""
    except UserError as fault:
        usual, unknown = None, f"cannot compare this with the model's usual reconstructions ({fault})"
    lines, assets = [], editor.assets or outputs / "assets"
    for index, found in zip(faces, likenesses(images[faces], reconstructions[faces], assets), strict=True):
        one, warning = inputs[index], unknown
        nearness = f"LPIPS-Alex {found.lpips:.3f}, identity {found.identity:.2f}"
        if usual is not None and (found.lpips > usual.lpips or found.identity < usual.identity):
            least = f"95 % of its validation pictures reach {usual.lpips:.3f} and {usual.identity:.2f}"
            warning = f"the model cannot represent this face ({nearness}; {least}); edits will not work well"
        where = f"aligned from {one.face.side:.0f} px of {one.path.name}"
        line = f"{one.name}: {where}; reconstruction {out / one.name}_embedded.png: {nearness}"
        lines.append((line, f"{one.name}: {warning}" if warning else None))
    return lines
