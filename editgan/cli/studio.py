"""`editgan studio`: the page to paint in; and repeating what was done there."""

import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from editgan.cli.options import OWN, Device, Own, check_own, errors, loaded, say
from editgan.errors import UserError
from editgan.runtime.environment import PROJECT_ROOT

if TYPE_CHECKING:
    from editgan.editor.editor import Editor

EVERYONE = "no --auth was given: everyone who reaches port {port} of {host} can use the page and see what it shows"


def studio(
    host: Annotated[str, typer.Option(help="Address to listen on; the default is for this computer only.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="Default: the first free one from 7860.")] = None,
    auth: Annotated[str, typer.Option(help="NAME:PASSWORD that the page asks for.", envvar="EDITGAN_STUDIO_AUTH")] = "",
    own: Own = OWN,
    outputs: Annotated[
        list[Path] | None,
        typer.Option(
            help="Folder with the outputs of the stages, of several models repeated; default: outputs, and of"
            " cars, cats and birds those in runs/."
        ),
    ] = None,
    device: Device = "auto",
) -> None:
    """Open a page in the browser to paint on masks and move sliders, while the picture follows."""
    from editgan.studio.serve import LOCAL, served

    name, _, password = auth.partition(":")
    if auth and not (name and password):
        raise UserError("--auth: write NAME:PASSWORD")
    check_own(own)
    folders = outputs or shown_by_default()
    names = [model_name(folder) for folder in folders]
    if twice := [name for name in names if names.count(name) > 1]:
        raise UserError(f"--outputs: two models have the name {twice[0]}; rename the folder of one run")
    models = {name: (loaded(folder, device, own), folder) for name, folder in zip(names, folders, strict=True)}
    for ending in (signal.SIGTERM, signal.SIGHUP):  # the files are removed then, too
        if signal.getsignal(ending) is not signal.SIG_IGN:  # `nohup`
            signal.signal(ending, signal.default_int_handler)
    with served(models, host=host, port=port, auth=(name, password) if auth else None) as address:
        if host not in (LOCAL, "localhost") and not auth:
            there = address.rstrip("/").rpartition(":")[2]
            errors.print(EVERYONE.format(port=there, host=host), style="yellow", markup=False, highlight=False)
        say(f"the studio is at {address} ; Ctrl-C ends it")
        if len(models) > 1:
            say(f"pages for {', '.join(models)}")
        try:
            while True:
                time.sleep(3600)
        except KeyboardInterrupt:
            say("the studio has ended; its files are removed")


def shown_by_default() -> list[Path]:
    """The outputs of the default run, and of those classes in runs/ that have all networks of an editor."""
    from editgan.data.params import RENDERED
    from editgan.editor.networks import MODELS

    classes = [Path("runs") / name / "outputs" for name in RENDERED]
    return [Path("outputs"), *(one for one in classes if all((one / model).is_file() for model in MODELS))]


def model_name(outputs: Path) -> str:
    """What a page of the studio is called: the name of the run, or of the folder of an imported generator."""
    folder = outputs.resolve()
    run = folder.parent if folder.name == "outputs" else folder
    return "heads" if run == PROJECT_ROOT else run.name


def repeat_session(path: Path, photo: Path | None, editor: "Editor", outputs: Path, out: Path) -> None:
    """Repeat a session of the studio, and write its results, named after the session.

    Raises UserError: another model, vector or photo than those of the session.
    """
    from editgan.editor.inputs import Input
    from editgan.editor.record import read_record
    from editgan.editor.results import write_edit
    from editgan.editor.session import repeat

    record = read_record(path)
    session = repeat(editor, outputs, record, photo)
    face = None if session.photo is None else session.photo[1]
    taken = Input(path.stem, path if photo is None else photo, face)
    write_edit(session.editor, session.result, [taken], out, paste_back=False)
    say(f"{len(record.actions)} actions of {path} repeated; results in {out}")
