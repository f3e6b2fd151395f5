"""`editgan`: embed, segment and edit pictures with the trained networks, from the command line; and a doctor.

Commands take pictures or folders of pictures (PNG, JPEG), or latents that `embed` wrote, and leave their results in
`--out`, named after the pictures. A picture of exactly the model's size is taken for an aligned one; in any other a
face is found and aligned, and an edit is put back into it at its own size.
"""

import functools
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from editgan.cli.runs import accept, compare, doctor, import_, train
from editgan.errors import UserError
from editgan.runtime.environment import apply_environment

if TYPE_CHECKING:
    from editgan.editor.editor import Editor
    from editgan.editor.inputs import Input

app = typer.Typer(
    help=__doc__, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None
)
console, errors = Console(), Console(stderr=True, soft_wrap=True)

Inputs = Annotated[list[Path], typer.Argument(help="Pictures, folders of pictures, or latents written by `embed`.")]
Out = Annotated[Path, typer.Option(help="Folder for the results.")]
Outputs = Annotated[Path, typer.Option(help="Folder with what the stages made.")]
Own = Annotated[Path, typer.Option("--vectors", help="Folder with your own editing vectors.")]
FaceNumber = Annotated[int | None, typer.Option("--face", min=1, help="Which face of a photo; the largest is 1.")]
AllFaces = Annotated[bool, typer.Option("--all-faces", help="Every face of a photo.")]
Device = Annotated[str, typer.Option(help="auto (CUDA where there is one), cpu or cuda.")]
Steps = Annotated[int, typer.Option(min=0, help="Steps of optimisation after the encoder's guess.")]
IdentityWeight = Annotated[float, typer.Option(min=0, help="Of the identity loss in these steps; try 4.")]
Refine = Annotated[int, typer.Option(min=0, help="Steps of self-supervised refinement; the paper takes 30.")]
PasteBack = Annotated[bool, typer.Option("--paste-back", help="Keep the photo's own pixels outside the edited region.")]


def reports_errors(command: Callable) -> Callable:
    """What the user can put right is one line on stderr and exit status 1."""

    @functools.wraps(command)
    def wrapped(*args, **kwargs):
        try:
            return command(*args, **kwargs)
        except (FileExistsError, NotADirectoryError) as error:
            fault = f"{error.filename}: is in the way, a file where a folder is needed; move it or name another folder"
            errors.print(f"editgan: {fault}", style="red", markup=False, highlight=False)
            raise typer.Exit(1) from None
        except (UserError, OSError) as error:
            errors.print(f"editgan: {error}", style="red", markup=False, highlight=False)
            raise typer.Exit(1) from None

    return wrapped


@app.command()
@reports_errors
def embed(
    inputs: Inputs,
    out: Out = Path("edited"),
    steps: Steps = 100,
    identity_weight: IdentityWeight = 0.0,
    face: FaceNumber = None,
    all_faces: AllFaces = False,
    outputs: Outputs = Path("outputs"),
    device: Device = "auto",
) -> None:
    """Find the latents of pictures; writes NAME.safetensors and NAME_embedded.png."""
    from editgan.editor.results import write_latents, write_pictures
    from editgan.images import mean_squared_error, to_float

    editor = loaded(outputs, device)
    taken = set_inputs(editor, inputs, steps, identity_weight, outputs, out, face=face, all_faces=all_faces)
    names = [one.name for one in taken]
    images = editor.render(editor.w_plus)
    write_latents(editor.w_plus, names, out)
    write_pictures(images, names, out, "embedded")
    if editor.photos is not None:
        distances = mean_squared_error(to_float(editor.photos), to_float(images))
        for name, distance in zip(names, distances.tolist(), strict=True):
            say(f"{name}: mean squared error {distance:.4f} in [-1, 1]")
    say(f"{len(names)} latents and reconstructions in {out}")


@app.command()
@reports_errors
def segment(
    inputs: Inputs,
    out: Out = Path("edited"),
    steps: Steps = 100,
    identity_weight: IdentityWeight = 0.0,
    face: FaceNumber = None,
    all_faces: AllFaces = False,
    outputs: Outputs = Path("outputs"),
    device: Device = "auto",
) -> None:
    """Part masks; writes NAME_mask.png (pixel values are labels) to paint on, NAME.safetensors, NAME_overlay.png."""
    from editgan.editor.results import write_latents, write_pictures
    from editgan.images import overlay, save_mask

    editor = loaded(outputs, device)
    taken = set_inputs(editor, inputs, steps, identity_weight, outputs, out, face=face, all_faces=all_faces)
    names = [one.name for one in taken]
    masks, images = editor.segment(), editor.render(editor.w_plus)
    write_latents(editor.w_plus, names, out)
    for name, mask in zip(names, masks, strict=True):
        save_mask(out / f"{name}_mask.png", mask, editor.palette.numpy())
    write_pictures(overlay(images, masks, editor.palette), names, out, "overlay")
    say(f"{len(names)} masks and overlays in {out}; labels: {labels(editor)}")


@app.command()
@reports_errors
def edit(
    picture: Annotated[Path, typer.Argument(help="A picture, or latents written by `embed`; or a folder of them.")],
    mask: Annotated[Path, typer.Argument(help="The mask that `segment` wrote, painted on; or the folder of them.")],
    out: Out = Path("edited"),
    name: Annotated[str, typer.Option(help="Keep the edit as an editing vector of this name.")] = "",
    edit_steps: Annotated[int, typer.Option(min=1, help="Steps of optimisation towards the mask.")] = 100,
    free_rows: Annotated[
        bool, typer.Option("--free-rows", help="Move every row of W+ by itself, as the paper.")
    ] = False,
    steps: Steps = 100,
    identity_weight: IdentityWeight = 0.0,
    face: FaceNumber = None,
    paste_back: PasteBack = False,
    own: Own = Path("vectors"),
    outputs: Outputs = Path("outputs"),
    device: Device = "auto",
) -> None:
    """Edit a picture by its painted mask, or each of a folder by its own; with --name also learn an editing vector.

    A mask belongs to the latents that `segment` left beside it; a picture is embedded anew only where there are none.
    """
    from editgan.editor.inputs import files_in, masks_of, read_masks
    from editgan.editor.results import write_edit

    pictures = files_in(picture)
    if name and len(pictures) > 1:
        raise UserError(f"{picture}: holds several pictures; --name takes one")
    masks, latents = masks_of(pictures, mask)
    editor = loaded(outputs, device, own)
    path = new_name(editor, name, own) if name else None
    target = read_masks(masks, editor)
    taken = set_inputs(
        editor, pictures, steps, identity_weight, outputs, out, face=face, paste_back=paste_back, latents=latents
    )
    before = editor.segment()
    with progress("optimising") as advance:
        edited = editor.edit(target, steps=edit_steps, shared_rows=not free_rows, progress=advance)
    write_edit(editor, edited, taken, out, paste_back)
    for one, wanted, was, found, parts in zip(taken, target, before, edited.masks, edited.parts, strict=True):
        followed = (found == wanted)[was != wanted].float().mean()
        painted = f"{followed:.0%} of the repainted pixels are segmented as painted; parts {', '.join(parts)}"
        say(f"{one.name}: {painted if (was != wanted).any() else 'its mask is not painted on'}")
    if path is not None:
        editor.save_vector(path, edited, source=pictures[0].name)
        say(f"editing vector {path}; apply it with: editgan apply PICTURE --edit {name}=1")


@app.command()
@reports_errors
def apply(
    inputs: Inputs,
    edit: Annotated[list[str], typer.Option(help="NAME or NAME=STRENGTH; several are added.")],
    out: Out = Path("edited"),
    refine: Refine = 0,
    steps: Steps = 100,
    identity_weight: IdentityWeight = 0.0,
    face: FaceNumber = None,
    all_faces: AllFaces = False,
    paste_back: PasteBack = False,
    own: Own = Path("vectors"),
    outputs: Outputs = Path("outputs"),
    device: Device = "auto",
) -> None:
    """Apply editing vectors: alone at interactive rates, or with --refine 30 cleaned up afterwards."""
    from editgan.editor.results import write_edit

    strengths = parsed(edit)
    editor = loaded(outputs, device, own)
    unknown = [name for name in strengths if name not in editor.vectors]
    if unknown:
        raise UserError(f"unknown edit {unknown[0]!r}; there are {', '.join(editor.vectors) or 'none'}")
    taken = set_inputs(
        editor, inputs, steps, identity_weight, outputs, out, face=face, all_faces=all_faces, paste_back=paste_back
    )
    with progress("refining") as advance:
        edited = editor.apply(strengths, refine=refine, progress=advance)
    write_edit(editor, edited, taken, out, paste_back)
    say(f"{len({one.path for one in taken})} pictures edited in {out}")


@app.command()
@reports_errors
def sample(
    count: Annotated[int, typer.Option(min=1, help="How many pictures.")] = 8,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the first; the others count on.")] = 0,
    truncation_psi: Annotated[float, typer.Option(help="Below 1 draws latents to their mean.")] = 0.7,
    out: Out = Path("edited"),
    outputs: Outputs = Path("outputs"),
    device: Device = "auto",
) -> None:
    """Make pictures of nobody; writes seed00000.png and its latent, and all of them on seed00000_samples.png."""
    from editgan.editor.results import write_latents, write_pictures, write_sheet

    editor = loaded(outputs, device)
    names = [f"seed{one:05d}" for one in range(seed, seed + count)]
    images = editor.sample(list(range(seed, seed + count)), truncation_psi)
    write_latents(editor.w_plus, names, out)
    write_pictures(images, names, out)
    say(f"{count} pictures and latents in {out}, all of them on {write_sheet(images, names, out)}")


@app.command()
@reports_errors
def label(
    count: Annotated[int, typer.Option(min=1, help="How many pictures with masks to keep.")] = 1000,
    drop: Annotated[float, typer.Option(help="Share of the drawn pictures left out, the most uncertain.")] = 0.1,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the first; the others count on.")] = 0,
    truncation_psi: Annotated[float, typer.Option(help="Below 1 draws latents to their mean.")] = 0.7,
    out: Annotated[Path, typer.Option(help="Folder for the results.")] = Path("labelled"),
    outputs: Outputs = Path("outputs"),
    device: Device = "auto",
) -> None:
    """Make labelled data: archive labelled.zip (img/, mask/, attributes.json), classes.json, a picture of some."""
    import shutil

    from editgan.data.archive import encode_image, encode_mask, write_archive
    from editgan.images import colourize, labelled_grid, save_png
    from editgan.segmentation.labelled import labelled_samples

    editor = loaded(outputs, device)
    with progress("drawing") as advance:
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
    say(f"{count} pictures with masks in {out / 'labelled.zip'}; the {made.dropped} most uncertain were left out")


@app.command()
@reports_errors
def vectors(own: Own = Path("vectors"), outputs: Outputs = Path("outputs")) -> None:
    """List the editing vectors: the pipeline's and your own."""
    from editgan.editing.vectors import load_vectors

    found = load_vectors(outputs / "editing" / "vectors", own)
    if not found:
        raise UserError(f"{outputs / 'editing' / 'vectors'}: no editing vectors; run `make demo`")
    table = Table("name", "strength", "parts", "learned from", "norm")
    for name, vector in found.items():
        origin = f"{vector.source}, {vector.target}" if vector.target else vector.source
        norm = f"{vector.delta_w_plus.norm():.2f}"
        table.add_row(name, f"{vector.scale:g}", ", ".join(vector.region_classes), origin, norm)
    console.print(table)


for command in (compare, accept, import_, doctor):
    app.command(command.__name__.strip("_"))(reports_errors(command))
app.add_typer(train, name="train")


def main() -> None:
    """Entry point of the `editgan` command."""
    apply_environment(Path.cwd())
    app()


def say(text: str) -> None:
    console.print(text, markup=False, highlight=False, soft_wrap=True)


def parsed(edits: list[str]) -> dict[str, float | None]:
    """["smile=1.2", "big_nose"] -> {"smile": 1.2, "big_nose": None}.

    Raises:
        UserError: a strength that is no number, or an edit named twice.
    """
    strengths: dict[str, float | None] = {}
    for entry in edits:
        name, given, value = entry.partition("=")
        if name in strengths:
            raise UserError(f"--edit {name} is given twice")
        try:
            strengths[name] = float(value) if given else None
        except ValueError:
            raise UserError(f"--edit {entry}: {value!r} is no number; write e.g. --edit {name}=1.2") from None
        if given and not math.isfinite(strengths[name]):
            raise UserError(f"--edit {entry}: give a finite strength, e.g. --edit {name}=1.2")
    return strengths


def loaded(outputs: Path, device: str, own: Path | None = None) -> "Editor":
    from editgan.editor.editor import Editor  # brings torch, which takes seconds

    return Editor.load(outputs, device, vectors=own)


def set_inputs(
    editor: "Editor",
    paths: list[Path],
    steps: int,
    identity_weight: float,
    outputs: Path,
    out: Path,
    *,
    face: int | None = None,
    all_faces: bool = False,
    paste_back: bool = False,
    latents: list[Path] | None = None,
) -> list["Input"]:
    """Set pictures, faces of photos, or latents. Everything is read before anything is computed.

    Args:
        latents: of pictures that were embedded before, one each, which then are not embedded again

    Raises:
        UserError: nothing there, pictures and latents mixed, two inputs of one name, no such face, latents of another
            generator, or latents where photos are to be pasted back.
    """
    from editgan.editor.inputs import LATENTS, Input, checked, files_in, read_latents, read_pictures
    from editgan.editor.results import show_faces

    if face is not None and all_faces:
        raise UserError("--face and --all-faces exclude each other")
    files = [found for path in paths for found in files_in(path)]
    inputs = checked([Input(path.stem, path) for path in files])
    if len({path.suffix == LATENTS for path in files}) > 1:
        raise UserError("pictures and latents cannot be mixed in one call")
    if files[0].suffix == LATENTS:
        if paste_back:
            raise UserError("--paste-back needs photos; latents have none")
        editor.set_latents(read_latents(files, editor))
        return inputs
    number = None if all_faces else face or 1
    inputs, images = read_pictures(files, editor.G.img_resolution, outputs / "assets", number)
    checked(inputs)
    if latents is not None:
        editor.set_latents(read_latents(latents, editor))
        editor.photos = images
        say(f"latents: {', '.join(map(str, latents))}")
        return inputs
    with progress("embedding") as advance:
        reconstructions = editor.set_image(images, steps=steps, identity_weight=identity_weight, progress=advance)
    for line, warning in show_faces(editor, inputs, images, reconstructions, outputs, out):
        say(line)
        if warning:
            errors.print(warning, style="yellow", markup=False, highlight=False)
    return inputs


def new_name(editor: "Editor", name: str, own: Path) -> Path:
    """Where a new editing vector goes.

    Raises:
        UserError: the name would lead to another folder, or is one of the vectors that the pipeline learned.
    """
    path = own / f"{name}.safetensors"
    if not name.replace("_", "").isalnum():
        raise UserError(f"--name {name!r}: use letters, digits and _")
    if name in editor.vectors and not path.exists():
        raise UserError(f"--name {name}: the pipeline has an edit of this name; choose another")
    return path


def labels(editor: "Editor") -> str:
    return ", ".join(f"{number} {name}" for number, name in enumerate(editor.class_names))


@contextmanager
def progress(what: str) -> Iterator[Callable[[int, int], None]]:
    """A bar that moves to and fro until the first call, then one with the time left."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=errors, transient=True) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


if __name__ == "__main__":
    main()
