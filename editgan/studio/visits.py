"""What the server keeps for each page that is open in a browser. No page sees another one's pictures or vectors."""

import secrets
import shutil
import tempfile
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from queue import Queue
from typing import Any

from PIL import Image
from torch import Tensor

from editgan.data.photo import Face
from editgan.editing.vectors import save_vector
from editgan.editor.edited import Edited, Preview
from editgan.editor.editor import Editor
from editgan.editor.inputs import Say, read_masks, read_pictures
from editgan.editor.record import picture_start
from editgan.editor.session import Session
from editgan.errors import UserError
from editgan.images import save_mask, to_pil
from editgan.weights import save_tensors, write_bytes

MOST_PAGES = 16  # the page that was idle longest is closed for the next one
MOST_KEPT = 8  # vectors that a page can keep
MOST_FACES = 12  # faces of a photo that are offered
MOST_PIXELS = 40_000_000  # of an upload
SHOW_EVERY = 5  # steps of an optimisation between two previews


@dataclass
class Visit:
    """One open page."""

    session: Session
    folder: Path  # files to take away; removed with the page
    kept: list[str] = field(default_factory=list)  # names of the vectors that were made here
    strengths: dict[str, float] = field(default_factory=dict)  # positions of the sliders
    wanted: Tensor | None = None  # the painted mask  # uint8 [H, W]
    faces: list[tuple[Path, Face, Tensor]] = field(default_factory=list)  # of the photo that was uploaded
    stop: threading.Event = field(default_factory=threading.Event)
    turn: threading.Lock = field(default_factory=threading.Lock)  # held while something is computed

    def upload(self, path: Path, say: Say = print) -> list[Tensor]:
        """Read an upload: an aligned picture becomes the picture, a photo with one face its face.

        `say` gets remarks on how it was read.

        Returns:
            the faces to choose from (`choose`), uint8 [3, H, W]; empty if the picture was set
        Raises:
            UserError: not a picture, too large, or without a face.
        """
        check_size(path)
        with named(path):
            inputs, images = read_pictures([path], self.session.editor, None, _by_name(path, say))
        if inputs[0].face is None:
            self.session.start(picture_start(images[0]))
            self.begin()
            return []
        kept = self._kept_copy(path)
        if len(inputs) > MOST_FACES:
            say(f"{len(inputs)} faces were found; the first {MOST_FACES} can be chosen")
        self.faces = [(kept, one.face, image) for one, image in zip(inputs, images, strict=True)][:MOST_FACES]
        if len(self.faces) == 1:
            self.choose(0)
            return []
        return [image for _, _, image in self.faces]

    def upload_mask(self, path: Path, say: Say = print) -> None:
        """Read a painted mask (`upload`)."""
        check_size(path)
        with named(path):
            self.wanted = read_masks([path], self.session.editor, _by_name(path, say))[0]

    def _kept_copy(self, path: Path) -> Path:
        """A copy of a photo among the page's files; copies of earlier photos are removed, except for the one in use."""
        used = self.session.photo and self.session.photo[0].parent
        for old in self.folder.glob("photo*"):
            if old != used:
                shutil.rmtree(old)
        self.folder.mkdir(parents=True, exist_ok=True)
        return Path(shutil.copy(path, Path(tempfile.mkdtemp(prefix="photo", dir=self.folder)) / path.name))

    def choose(self, number: int) -> None:
        """Set a face of the photo that was uploaded."""
        path, face, image = self.faces[number]
        self.session.start(picture_start(image, path, face), photo=path)
        self.begin()

    def begin(self) -> None:
        """Another picture was set: the sliders are at 0 and nothing is painted."""
        self.strengths, self.wanted = {}, None

    def restart(self) -> None:
        """Forget all edits of the picture."""
        session = self.session
        session.start(session.began, session.photo and session.photo[0], session.latent)
        self.begin()

    def move(self, name: str, strength: float) -> None:
        """Move the slider of a vector."""
        self.strengths[name] = strength
        self.session.move(self.strengths)

    def keep(self, name: str) -> None:
        """Keep the last edit as a vector; its slider is then at 1, and the picture stays as it is."""
        if len(self.kept) >= MOST_KEPT:
            raise UserError(f"a page keeps at most {MOST_KEPT} vectors; reload it to start again")
        self.session.keep(name)
        self.kept.append(name)
        self.strengths, self.wanted = {name: 1.0}, None
        self.session.apply(self.strengths)

    def optimise(self) -> Iterator["Moment | Edited"]:
        """Optimise towards the painted mask: moments to show, then the result."""
        if self.wanted is None or bool((self.wanted == self.session.mask).all()):
            raise UserError("nothing is painted yet; choose a part, paint on the picture, then optimise")
        wanted = self.wanted
        yield from self._watched(lambda preview: self.session.edit(wanted, preview=preview))
        self.strengths = {}

    def refine(self, steps: int) -> Iterator["Moment | Edited"]:
        """Refine the sum of the sliders: moments to show, then the result."""
        if not any(self.strengths.values()):
            raise UserError("all sliders are at 0; move one, then refine")
        yield from self._watched(lambda preview: self.session.apply(self.strengths, refine=steps, preview=preview))

    def _watched(self, work: Callable[[Preview], Edited]) -> Iterator["Moment | Edited"]:
        """Run `work` in a thread and yield what it shows; it is stopped when the page is closed."""
        shown: Queue[Any] = Queue()
        self.stop.clear()
        began = time.monotonic()

        def preview(step: int, steps: int, w_plus: Tensor) -> bool:
            if step and step % SHOW_EVERY == 0:
                left = (time.monotonic() - began) / step * (steps - step)
                shown.put(Moment(to_pil(self.session.editor.render(w_plus)[0]), step, steps, left))
            return self.stop.is_set()

        def run() -> None:
            try:
                shown.put(work(preview))
            except Exception as fault:  # raised again where the result is awaited
                shown.put(fault)

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        try:
            while True:
                one = shown.get()
                if isinstance(one, Exception):
                    raise one
                yield one
                if isinstance(one, Edited):
                    return
        finally:
            self.stop.set()
            thread.join()

    def files(self) -> dict[str, Path]:
        """Write what can be taken away: picture, mask if there is a segmentation, latent, session, and kept vectors.

        Raises:
            UserError: no picture was chosen.
        """
        record, names = self.session.record(), ("picture.png", "mask.png", "latent.safetensors", "session.json")
        paths = {name.partition(".")[0]: self.folder / name for name in names}
        self.folder.mkdir(parents=True, exist_ok=True)
        self.session.whole().save(paths["picture"])
        if self.session.editor.class_names:
            save_mask(paths["mask"], self.session.mask, self.session.editor.palette.numpy())
        else:
            del paths["mask"]
        save_tensors(paths["latent"], {"w_plus": self.session.w_plus})
        write_bytes(paths["session"], record.model_dump_json(indent=1).encode())
        for name in self.kept:
            paths[f"vector {name}"] = self.vector_file(name)
        return paths

    def vector_file(self, name: str) -> Path:
        return save_vector(self.folder / "vectors" / f"{name}.safetensors", self.session.editor.vectors[name])

    def mask_file(self) -> Path:
        """Write the mask as it is painted, for a painting program."""
        mask = self.session.mask if self.wanted is None else self.wanted
        return save_mask(self.folder / "painted_mask.png", mask, self.session.editor.palette.numpy())


@dataclass(frozen=True)
class Moment:
    """A moment of an optimisation."""

    picture: Image.Image
    step: int
    steps: int
    seconds_left: float


class Visits:
    """The open pages, by the id that Gradio gives each; at most `most`."""

    def __init__(self, editor: Editor, outputs: Path, folder: Path, most: int = MOST_PAGES) -> None:
        self.editor, self.outputs, self.folder, self.most = editor, outputs, folder, most
        self.pages: OrderedDict[str, Visit] = OrderedDict()
        self.guard = threading.Lock()

    def open(self, page: str) -> Visit:
        """A new page, or the same page loaded again. The page that was idle longest may be closed for it."""
        self.close(page)
        # A client chooses the id of its page, so the id must not be part of a path that is removed later.
        visit = Visit(Session(self.editor, self.outputs), self.folder / f"page-{secrets.token_hex(16)}")
        with self.guard:
            self.pages[page] = visit
            idle = list(self.pages)[: max(0, len(self.pages) - self.most)]
        for one in idle:
            self.close(one)
        return visit

    def get(self, page: str) -> Visit:
        """Raises UserError: the page was closed."""
        with self.guard:
            if page not in self.pages:
                raise UserError("the server has closed this page, because it was idle; reload it")
            self.pages.move_to_end(page)
            return self.pages[page]

    def close(self, page: str) -> None:
        """Forget a page, stop what it computes, and remove its files."""
        with self.guard:
            visit = self.pages.pop(page, None)
        if visit is not None:
            visit.stop.set()
            shutil.rmtree(visit.folder, ignore_errors=True)


@contextmanager
def named(path: Path) -> Iterator[None]:
    """Name an upload in messages as the person does, without the folder of the server."""
    try:
        yield
    except UserError as fault:
        raise UserError(str(fault).replace(str(path), path.name)) from None


def _by_name(path: Path, say: Say) -> Say:
    return lambda text: say(text.replace(str(path), path.name))


def check_size(path: Path) -> None:
    """Check the size of an upload before it is decoded.

    Raises:
        UserError: it is not a picture, or has too many pixels.
    """
    possible = f"at most {MOST_PIXELS // 1_000_000} million pixels are possible"
    try:
        with Image.open(path) as header:
            width, height = header.size
    except Image.DecompressionBombError:
        raise UserError(f"{path.name}: has too many pixels; {possible}") from None
    except (OSError, SyntaxError, ValueError):
        raise UserError(f"{path.name}: cannot be read as a picture; give a JPEG, PNG or WebP file") from None
    if width * height > MOST_PIXELS:
        raise UserError(f"{path.name}: has {width * height / 1e6:.0f} million pixels; {possible}")
