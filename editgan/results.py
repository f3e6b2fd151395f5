"""What the commands leave behind: latents, pictures and strips, named after the inputs."""

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor
from torch.nn.functional import interpolate

from editgan.editor import Edited, Editor
from editgan.images import colourize, labelled_grid, overlay, save_png, to_pil
from editgan.inputs import LATENTS, Input
from editgan.photo import crop_face, read_photo
from editgan.weights import save_tensors

STRIP = 256  # side of a face of a photo in its strip


def write_latents(w_plus: Tensor, names: Sequence[str], out: Path, suffix: str = "") -> None:
    """NAME.safetensors, or NAME_SUFFIX.safetensors."""
    for name, one in zip(names, w_plus.cpu(), strict=True):
        save_tensors(out / f"{name}{suffix and '_'}{suffix}{LATENTS}", {"w_plus": one[None]})


def write_pictures(images: Tensor, names: Sequence[str], out: Path, suffix: str = "") -> None:
    """NAME.png, or NAME_SUFFIX.png."""
    for name, image in zip(names, images, strict=True):
        save_png(out / f"{name}{suffix and '_'}{suffix}.png", to_pil(image))


def write_edit(editor: Editor, edited: Edited, inputs: Sequence[Input], out: Path, paste_back: bool) -> None:
    """NAME_edited.png, NAME_edited.safetensors, NAME_edited_overlay.png (the edited mask over the edited picture), and
    NAME_strip.png: photo, embedded, its mask, edited, its mask, result.

    Of a photo the edited picture is the whole photo, with all faces that were edited.
    """
    before, masks = editor.render(editor.w_plus), editor.segment()
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
