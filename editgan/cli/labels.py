"""Commands for labelled data: `label` (samples with masks), `suggest` and `export` (pictures to label by hand)."""

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
    from editgan.editor.results import write_png
    from editgan.images import colourize, labelled_grid
    from editgan.segmentation.labelled import labelled_samples
    from editgan.weights import write_beside

    editor = loaded(outputs, device)
    with progress("sampling") as advance:
        made = labelled_samples(
            editor.G, editor.S, count=count, drop=drop, seed=seed, truncation_psi=truncation_psi, progress=advance
        )
    out.mkdir(parents=True, exist_ok=True)
    part = out / ".labelled.part"
    write_archive(
        part,
        [encode_image(image) for image in made.images.permute(0, 2, 3, 1).numpy()],
        [encode_mask(mask, editor.palette.numpy()) for mask in made.masks.numpy()],
        made.attributes(),
    )
    archive = write_beside(out / "labelled.zip", part.read_bytes())
    part.unlink()
    write_beside(out / "classes.json", (outputs / "data/classes.json").read_bytes())
    shown = made.uncertainty.argsort()[:: max(1, count // 8)]  # from certain to uncertain
    columns = {"image": made.images[shown], "mask": colourize(made.masks[shown], editor.palette)}
    write_png(out / "labelled.png", labelled_grid(columns))
    say(f"{count} samples with masks in {archive}; the {made.dropped} most uncertain were discarded")


def suggest(
    inputs: Inputs,
    count: Annotated[int, typer.Option(min=1, help="Number of pictures to label.")] = 16,
    out: Out = Path("suggested"),
    outputs: Outputs = Path("outputs"),
    device: Device = "auto",
) -> None:
    """Choose a diverse set of pictures to label by hand; writes suggested.txt and suggested.png."""
    from editgan.editor.inputs import files_in, read_pictures
    from editgan.editor.results import write_png
    from editgan.images import image_grid
    from editgan.segmentation.suggest import picture_features, suggest
    from editgan.weights import write_beside

    editor = loaded(outputs, device)
    files = [found for path in inputs for found in files_in(path, say)]
    taken, images = read_pictures(files, editor, 1, say)
    if len(taken) <= count:
        raise UserError(f"{len(taken)} pictures, of which {count} are to be chosen; give more, or a smaller --count")
    chosen = suggest(picture_features(editor.lpips_vgg, images, editor.device), count, seed=0)
    listed = write_beside(out / "suggested.txt", "".join(f"{taken[index].path}\n" for index in chosen).encode())
    shown = write_png(out / "suggested.png", image_grid(images[chosen], columns=8, scale=2))
    say(f"{count} of {len(taken)} pictures, listed in {listed}, shown in {shown}")


export = typer.Typer(help="Write files for other programs.", no_args_is_help=True, rich_markup_mode=None)


@export.command("labels")
def export_labels(
    inputs: Annotated[
        list[Path], typer.Argument(help="Pictures, folders of pictures, or the suggested.txt that `suggest` wrote.")
    ],
    out: Out = Path("to_label"),
    classes: Annotated[
        Path, typer.Option(help="classes.json with the labels: that of your folder, or of the pipeline's data.")
    ] = Path("outputs/data/classes.json"),
) -> None:
    """Copy pictures into a folder that LabelMe opens, with labels.txt; `editgan import labels` reads it back."""
    from editgan.data.annotations.importing import export_labels
    from editgan.data.archive import load_classes
    from editgan.editor.inputs import files_in

    pictures = []
    for path in inputs:
        if path.suffix == ".txt":
            try:
                lines = path.read_text(encoding="utf-8-sig").splitlines()
            except (OSError, UnicodeDecodeError) as error:
                raise UserError(f"{path}: is not a list of pictures ({error})") from None
            pictures += [Path(line.strip()) for line in lines if line.strip()]
        else:
            pictures += files_in(path)
    count = export_labels(pictures, out, load_classes(classes))
    say(f"{count} pictures in {out}; label them with: labelme {out} --labels {out / 'labels.txt'} --nodata")
    say(f"then: editgan import labels {out} --into FOLDER (docs/data.md)")
