"""Commands for labelled data: `label` (samples with their masks) and `suggest` (pictures to label by hand)."""

import shutil
from pathlib import Path
from typing import Annotated

import typer

from editgan.cli.options import Device, Inputs, Out, Outputs, Seed, Truncation, loaded, progress, say
from editgan.errors import UserError


def label(
    count: Annotated[int, typer.Option(min=1, help="Number of samples with masks to keep.")] = 1000,
    drop: Annotated[float, typer.Option(help="Share of samples to discard, the most uncertain ones.")] = 0.1,
    seed: Seed = 0,
    truncation_psi: Truncation = 0.7,
    out: Out = Path("labelled"),
    outputs: Outputs = Path("outputs"),
    device: Device = "auto",
) -> None:
    """Sample labelled data; writes labelled.zip (img/, mask/, attributes.json), classes.json and a preview."""
    from editgan.data.archive import encode_image, encode_mask, write_archive
    from editgan.images import colourize, labelled_grid, save_png
    from editgan.segmentation.labelled import labelled_samples

    editor = loaded(outputs, device)
    with progress("sampling") as advance:
        made = labelled_samples(
            editor.G, editor.S, count=count, drop=drop, seed=seed, truncation_psi=truncation_psi, progress=advance
        )
    out.mkdir(parents=True, exist_ok=True)
    write_archive(
        out / "labelled.zip",
        [encode_image(image) for image in made.images.permute(0, 2, 3, 1).numpy()],
        [encode_mask(mask, editor.palette.numpy()) for mask in made.masks.numpy()],
        made.attributes(),
    )
    shutil.copy(outputs / "data/classes.json", out / "classes.json")
    shown = made.uncertainty.argsort()[:: max(1, count // 8)]  # from certain to uncertain
    columns = {"image": made.images[shown], "mask": colourize(made.masks[shown], editor.palette)}
    save_png(out / "labelled.png", labelled_grid(columns))
    say(f"{count} samples with masks in {out / 'labelled.zip'}; the {made.dropped} most uncertain were discarded")


def suggest(
    inputs: Inputs,
    count: Annotated[int, typer.Option(min=1, help="Number of pictures to label.")] = 16,
    out: Out = Path("suggested"),
    outputs: Outputs = Path("outputs"),
    device: Device = "auto",
) -> None:
    """Choose which pictures to label by hand, one of every kind; writes suggested.txt and suggested.png."""
    from editgan.editor.inputs import files_in, read_pictures
    from editgan.images import image_grid, save_png
    from editgan.segmentation.suggest import picture_features, suggest
    from editgan.weights import write_bytes

    editor = loaded(outputs, device)
    files = [found for path in inputs for found in files_in(path)]
    taken, images = read_pictures(files, editor.G.img_resolution, editor.assets or outputs / "assets", 1)
    if len(taken) <= count:
        raise UserError(f"{len(taken)} pictures, of which {count} are to be chosen; give more, or a smaller --count")
    chosen = suggest(picture_features(editor.lpips_vgg, images, editor.device), count, seed=0)
    write_bytes(out / "suggested.txt", "".join(f"{taken[index].path}\n" for index in chosen).encode())
    save_png(out / "suggested.png", image_grid(images[chosen], columns=8, scale=2))
    say(f"{count} of {len(taken)} pictures, listed in {out / 'suggested.txt'}, shown in {out / 'suggested.png'}")
