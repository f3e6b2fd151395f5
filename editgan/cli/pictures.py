"""`editgan`: embed, segment and edit pictures with the trained networks; compare runs; diagnose the project.

Commands take pictures or folders of pictures, or latents written by `embed`. They write their results to `--out`, named
after the pictures. No file is replaced: a second NAME_mask.png becomes NAME_mask-2.png. Defaults named like
`encoder.inversion_steps` are read from the params.yaml beside `--outputs`, if there is one. A picture of exactly the
model's size is treated as an aligned face. In any other picture, faces are detected and aligned, and edits are blended
back at full size.
"""

import math
from collections.abc import Callable, Collection
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from typer.core import TyperGroup

from editgan.cli.importing import import_
from editgan.cli.labels import export, label, suggest
from editgan.cli.new_class import new_class
from editgan.cli.options import (
    OWN,
    Device,
    Inputs,
    MaybeInputs,
    Out,
    Outputs,
    Own,
    Seed,
    Truncation,
    check_own,
    console,
    errors,
    loaded,
    progress,
    say,
)
from editgan.cli.runs import accept, compare, doctor, train
from editgan.cli.studio import repeat_session, studio
from editgan.errors import UserError
from editgan.runtime.environment import apply_environment

if TYPE_CHECKING:
    from torch import Tensor

    from editgan.editor.editor import Editor
    from editgan.editor.inputs import Input


class Commands(TyperGroup):
    """Prints errors that the user can fix as one line on stderr; the exit status is then 1."""

    def invoke(self, context):
        try:
            return super().invoke(context)
        except (FileExistsError, NotADirectoryError) as error:
            fault = f"{error.filename}: is a file where a folder is needed; move it or give another folder"
        except (UserError, OSError) as error:
            fault = str(error)
        errors.print(f"editgan: {fault}", style="red", markup=False, highlight=False)
        raise typer.Exit(1)


app = typer.Typer(
    cls=Commands,
    help=__doc__,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

FaceNumber = Annotated[
    int | None, typer.Option("--face", min=1, help="Number of the face in a photo; the largest face is 1.")
]
AllFaces = Annotated[bool, typer.Option("--all-faces", help="Every face of a photo.")]
Steps = Annotated[
    int | None, typer.Option(min=0, help="Steps of optimisation after the encoder; default: encoder.inversion_steps.")
]
IdentityWeight = Annotated[float, typer.Option(min=0, help="Weight of the identity loss in these steps; try 4.")]
Refine = Annotated[int, typer.Option(min=0, help="Steps of self-supervised refinement; the paper uses 30.")]
PasteBack = Annotated[bool, typer.Option("--paste-back", help="Keep the photo's own pixels outside the edited region.")]


def embedding(work: Callable[["Editor", list[str], Path], None], parts: bool = False) -> None:
    """Make a command that embeds pictures, writes their latents, and then does `work` with editor, names and folder.

    With `parts`, a segmentation is required before anything is embedded.
    """

    def command(
        inputs: Inputs,
        out: Out = Path("edited"),
        steps: Steps = None,
        identity_weight: IdentityWeight = 0.0,
        face: FaceNumber = None,
        all_faces: AllFaces = False,
        outputs: Outputs = Path("outputs"),
        device: Device = "auto",
    ) -> None:
        from editgan.editor.inputs import recorded
        from editgan.editor.loading import require_segmentation
        from editgan.editor.results import write_latents

        editor = loaded(outputs, device)
        if parts:
            require_segmentation(editor.S)
        taken = set_inputs(editor, inputs, steps, identity_weight, outputs, out, face=face, all_faces=all_faces)
        names = [one.name for one in taken]
        write_latents(editor.w_plus, names, [recorded(one, editor) for one in taken], out)
        work(editor, names, out)

    app.command(work.__name__, help=work.__doc__)(command)


@embedding
def embed(editor: "Editor", names: list[str], out: Path) -> None:
    """Embed pictures into W+; writes NAME.safetensors and NAME_embedded.png."""
    from editgan.editor.results import write_pictures
    from editgan.images import mean_squared_error, to_float

    images = editor.reconstruct()
    write_pictures(images, names, out, "embedded")
    if editor.photos is not None:
        distances = mean_squared_error(to_float(editor.photos), to_float(images))
        for name, distance in zip(names, distances.tolist(), strict=True):
            say(f"{name}: mean squared error {distance:.4f} in [-1, 1]")
    say(f"{len(names)} latents and reconstructions in {out}")


@partial(embedding, parts=True)
def segment(editor: "Editor", names: list[str], out: Path) -> None:
    """Predict part masks; writes NAME_mask.png (pixel values are labels), NAME.safetensors, NAME_overlay.png."""
    from editgan.editor.results import write_masks, write_pictures
    from editgan.images import overlay

    masks, images = editor.segment(), editor.reconstruct()
    write_masks(masks, names, out, editor.palette)
    write_pictures(overlay(images, masks, editor.palette), names, out, "overlay")
    labels = ", ".join(f"{number} {name}" for number, name in enumerate(editor.class_names))
    say(f"{len(names)} masks and overlays in {out}; labels: {labels}")


@app.command()
def edit(
    picture: Annotated[Path, typer.Argument(help="A picture, or latents written by `embed`; or a folder of them.")],
    mask: Annotated[Path, typer.Argument(help="The repainted mask, originally written by `segment`; or a folder.")],
    out: Out = Path("edited"),
    name: Annotated[str | None, typer.Option(help="Save the edit as an editing vector with this name.")] = None,
    edit_steps: Annotated[
        int | None, typer.Option(min=1, help="Steps of optimisation towards the mask; default: editing.edit.steps.")
    ] = None,
    steps: Steps = None,
    identity_weight: IdentityWeight = 0.0,
    face: FaceNumber = None,
    paste_back: PasteBack = False,
    own: Own = OWN,
    outputs: Outputs = Path("outputs"),
    device: Device = "auto",
) -> None:
    """Edit a picture by its repainted mask, or a folder of pictures; --name also saves an editing vector.

    The latents that `segment` wrote are used: those next to the mask, to the picture or in --out that record this
    picture. Without them, the picture is embedded again.
    """
    from editgan.editor.inputs import files_in, masks_of, read_masks
    from editgan.editor.results import write_edit

    pictures = files_in(picture, say)
    if name is not None and len(pictures) > 1:
        raise UserError(f"{picture}: contains several pictures; --name needs a single picture")
    masks = masks_of(pictures, mask)
    editor = loaded(outputs, device, own)
    path = None if name is None else new_name(editor, name, own)
    target = read_masks(masks, editor, say)
    places = {out, *(one.parent for one in (*masks, *pictures))}
    taken = set_inputs(
        editor,
        pictures,
        steps,
        identity_weight,
        outputs,
        out,
        face=face,
        paste_back=paste_back,
        latents_in=places,
        masks=target,
    )
    with progress("optimising") as advance:
        edited = editor.edit(target, steps=edit_steps, progress=advance)
    write_edit(editor, edited, taken, out, paste_back, target)
    for one, outcome in zip(taken, editor.outcomes(edited, target), strict=True):
        say(f"{one.name}: {outcome}")
    if path is not None:
        saved = editor.save_vector(path, edited, source=pictures[0].name)
        kept = f" ({path} exists and is kept)" if saved != path else ""
        say(f"editing vector {saved}{kept}; apply it with: editgan apply PICTURE --edit {saved.stem}=1")


@app.command()
def apply(
    inputs: MaybeInputs = None,
    edit: Annotated[list[str] | None, typer.Option(help="NAME or NAME=STRENGTH; several edits are summed.")] = None,
    session: Annotated[
        Path | None, typer.Option(help="Repeat a session of the studio; of a photo, give the photo, too.")
    ] = None,
    out: Out = Path("edited"),
    refine: Refine = 0,
    steps: Steps = None,
    identity_weight: IdentityWeight = 0.0,
    face: FaceNumber = None,
    all_faces: AllFaces = False,
    paste_back: PasteBack = False,
    own: Own = OWN,
    outputs: Outputs = Path("outputs"),
    device: Device = "auto",
) -> None:
    """Apply editing vectors, at interactive speed, or with self-supervised refinement (--refine 30)."""
    from editgan.editor.loading import require_segmentation
    from editgan.editor.results import write_edit

    if session is not None:
        check_own(own)
        if edit or len(inputs or ()) > 1 or any((refine, steps, identity_weight, face, all_faces, paste_back)):
            raise UserError("--session repeats what was done: give only the session's photo, --own, --outputs, --out")
        repeat_session(session, inputs[0] if inputs else None, loaded(outputs, device, own), outputs, out)
        return
    if not inputs or not edit:
        raise UserError("give pictures and at least one --edit, or --session")
    strengths = parsed(edit)
    check_own(own)
    editor = loaded(outputs, device, own)
    if unknown := [name for name in strengths if name not in editor.vectors]:
        raise UserError(f"unknown edit {unknown[0]!r}; available: {', '.join(editor.vectors) or 'none'}")
    for edited in strengths if refine else ():
        require_segmentation(editor.S, editor.vectors[edited])
    taken = set_inputs(
        editor, inputs, steps, identity_weight, outputs, out, face=face, all_faces=all_faces, paste_back=paste_back
    )
    with progress("refining") as advance:
        edited = editor.apply(strengths, refine=refine, progress=advance)
    write_edit(editor, edited, taken, out, paste_back)
    say(f"edited pictures in {out}: {len({one.path for one in taken})}")


@app.command()
def sample(
    count: Annotated[int, typer.Option(min=1, help="Number of samples.")] = 8,
    seed: Seed = 0,
    truncation_psi: Truncation = 0.7,
    out: Out = Path("edited"),
    outputs: Outputs = Path("outputs"),
    device: Device = "auto",
) -> None:
    """Draw samples from the generator; writes seed00000.png and its latent, and all on seed00000_samples.png."""
    from editgan.editor.results import write_samples

    editor = loaded(outputs, device)
    names = [f"seed{one:05d}" for one in range(seed, seed + count)]
    images = editor.sample(list(range(seed, seed + count)), truncation_psi)
    say(f"{count} samples and latents in {out}, all of them on {write_samples(editor, images, names, out)}")


@app.command()
def vectors(own: Own = OWN, outputs: Outputs = Path("outputs")) -> None:
    """List the editing vectors of the pipeline and your own."""
    from editgan.editing.vectors import load_vectors

    check_own(own)
    found = load_vectors(outputs / "editing" / "vectors", own)
    if not found:
        raise UserError(f"{outputs / 'editing' / 'vectors'}: no editing vectors; run `make demo`")
    table = Table("name", "strength", "parts", "learned from", "norm")
    for name, vector in found.items():
        origin = f"{vector.source}, {vector.target}" if vector.target else vector.source
        norm = f"{vector.delta_w_plus.norm():.2f}"
        table.add_row(name, f"{vector.scale:g}", ", ".join(vector.region_classes), origin, norm)
    console.print(table)


for command in (studio, label, suggest, compare, accept, import_, new_class, doctor):
    app.command(command.__name__.strip("_").replace("_", "-"))(command)
app.add_typer(train, name="train")
app.add_typer(export, name="export")


def main() -> None:
    """Entry point of the `editgan` command."""
    apply_environment(Path.cwd())
    app()


def parsed(edits: list[str]) -> dict[str, float | None]:
    """["smile=1.2", "big_nose"] -> {"smile": 1.2, "big_nose": None}.

    Raises UserError: a strength that is not a finite number, or an edit given twice.
    """
    strengths: dict[str, float | None] = {}
    for entry in edits:
        name, given, value = entry.partition("=")
        if name in strengths:
            raise UserError(f"--edit {name} is given twice")
        try:
            strengths[name] = float(value) if given else None
        except ValueError:
            raise UserError(f"--edit {entry}: {value!r} is not a number; write e.g. --edit {name}=1.2") from None
        if given and not math.isfinite(strengths[name]):
            raise UserError(f"--edit {entry}: give a finite strength, e.g. --edit {name}=1.2")
    return strengths


def set_inputs(
    editor: "Editor",
    paths: list[Path],
    steps: int | None,
    identity_weight: float,
    outputs: Path,
    out: Path,
    *,
    face: int | None = None,
    all_faces: bool = False,
    paste_back: bool = False,
    latents_in: Collection[Path] = (),
    masks: "Tensor | None" = None,
) -> list["Input"]:
    """Set pictures, faces of photos, or latents. All files are read before any computation.

    Args:
        latents_in: folders with latents; a picture whose latents are there is not embedded again
        masks: painted masks of the pictures; of several latents of a picture the nearest ones are taken

    Raises UserError: no input, pictures mixed with latents, two inputs with the same name, no such face, latents of
    another generator, or latents with `paste_back`.
    """
    from editgan.editor.inputs import LATENTS, Input, checked, files_in, read_latents, read_pictures
    from editgan.editor.results import show_faces
    from editgan.weights import read_metadata

    if face is not None and all_faces:
        raise UserError("--face and --all-faces are mutually exclusive")
    files = [found for path in paths for found in files_in(path, say)]
    inputs = checked([Input(path.stem, path) for path in files])
    if len({path.suffix == LATENTS for path in files}) > 1:
        raise UserError("pictures and latents cannot be mixed in one call")
    if files[0].suffix == LATENTS:
        if paste_back:
            raise UserError("--paste-back needs a photo, but latents were given")
        editor.set_latents(read_latents(files, editor))
        return [Input(path.stem, path, record=read_metadata(path)) for path in files]
    number = None if all_faces else face or 1
    inputs, images = read_pictures(files, editor, number, say)
    checked(inputs)
    if masks is not None and use_latents(editor, inputs, images, latents_in, masks):
        return inputs
    with progress("embedding") as advance:
        editor.set_image(images, steps=steps, identity_weight=identity_weight, progress=advance)
    for line, warning in show_faces(editor, inputs, out):
        say(line)
        if warning:
            errors.print(warning, style="yellow", markup=False, highlight=False)
    return inputs


def use_latents(
    editor: "Editor", inputs: list["Input"], images: "Tensor", folders: Collection[Path], masks: "Tensor"
) -> bool:
    """Set the latents that folders have of the pictures; False: some picture has none, so all are embedded."""
    from editgan.editor.inputs import nearest_latents, read_latents, recorded_latents

    found = nearest_latents(masks, recorded_latents(inputs, folders, editor), editor)
    missing = [one.name for one, path in zip(inputs, found, strict=True) if path is None]
    if missing:
        say(f"no latents of {', '.join(missing)} in {', '.join(sorted(map(str, folders)))}: embedding")
        return False
    editor.set_latents(read_latents(found, editor))
    editor.photos = images
    say(f"latents: {', '.join(map(str, found))}")
    return True


def new_name(editor: "Editor", name: str, own: Path) -> Path:
    """The path for a new editing vector; another one there is kept (`Editor.save_vector`).

    Raises UserError: an invalid name, or the name of a vector that the pipeline learned.
    """
    path = own / f"{name}.safetensors"
    if not name.replace("_", "").isalnum():
        raise UserError(f"--name {name!r}: use letters, digits and _")
    if name in editor.vectors and not path.exists():
        raise UserError(f"--name {name}: the pipeline has an edit with this name; choose another")
    return path


if __name__ == "__main__":
    main()
