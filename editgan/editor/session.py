"""A session: one picture and the edits made on it, with a record from which the same picture can be made again."""

import base64
import copy
from pathlib import Path

import torch
from PIL import Image
from pydantic import ValidationError
from torch import Tensor

from editgan.data.archive import encode_mask, load_images
from editgan.data.photo import Face, read_photo
from editgan.editing.vectors import EditingVector, apply_vector, combined
from editgan.editor.edited import Edited, Preview
from editgan.editor.editor import Editor
from editgan.editor.record import (
    MOST_ACTIONS,
    ApplyAction,
    EditAction,
    HeadStart,
    KeepAction,
    PictureStart,
    Record,
    SeedStart,
    decoded,
    decoded_latent,
    encoded_latent,
    fingerprint,
    kept_in,
)
from editgan.editor.request import requested
from editgan.encoder.encoder import load_latents
from editgan.errors import UserError
from editgan.images import read_image, read_mask, to_pil
from editgan.weights import sha256


class Session:
    """One picture and the edits made on it.

    An edit starts from what was reached so far. Vectors are the exception: a later `apply` replaces the one just
    before it, as when a slider is moved.

        session = Session(Editor.load("outputs"), Path("outputs"))
        session.start(SeedStart(seed=3))
        session.edit(mask)
        session.keep("mine")
        session.apply({"mine": 1.0, "wide_face": 0.5}, refine=30)
        session.record()                        # repeat(editor, outputs, record) makes the same picture again

    Attributes:
        editor: a copy of the editor that was given, for this session alone
        current: the result of the last action; None: there is none since the start or since an edit was kept
        photo: the file that the picture was cut out of, and the face in it
    """

    def __init__(self, editor: Editor, outputs: Path) -> None:
        self.editor, self.outputs = editor.copy(), outputs
        self.began: SeedStart | HeadStart | PictureStart | None = None
        self.actions: list[EditAction | ApplyAction | KeepAction] = []
        self.latent: Tensor | None = None  # of the picture as it was set  # [1, num_ws, w_dim]
        self._current: Edited | None = None
        self._moved: dict[str, float] | None = None  # strengths whose result is not computed yet
        self.photo: tuple[Path, Face] | None = None

    # --- the picture -----------------------------------------------------------------------------------------------

    def start(
        self, start: SeedStart | HeadStart | PictureStart, photo: Path | None = None, latent: Tensor | None = None
    ) -> None:
        """Set a picture; everything done before is forgotten, except for the vectors that were kept.

        Args:
            photo: the photo that a `PictureStart` with `photo` was cut out of; None: it is not at hand
            latent: of the picture, if it is known already  # [1, num_ws, w_dim]
        Raises:
            UserError: the picture cannot be read or has another size, there is no such head, or another photo.
        """
        if isinstance(start, SeedStart):
            self.editor.sample([start.seed], start.truncation_psi)
        elif isinstance(start, HeadStart):
            self.set_head(start.head, latent)
        else:
            image = read_image(decoded(start.png, "the picture", self.editor.G.img_resolution))
            if latent is None:
                self.editor.set_image(image)
            else:
                self.editor.set_latents(latent)
                self.editor.photos = image[None]
        self.began, self.actions, self.photo, self.latent = start, [], None, self.editor.w_plus
        self._current = self._moved = None
        if photo is not None:
            known = start.photo if isinstance(start, PictureStart) else None
            if known is None or sha256(photo) != known.sha256:
                wanted = "the session has no photo" if known is None else f"the session was made with {known.name}"
                raise UserError(f"{photo}: is another picture; {wanted}")
            self.photo = photo, Face(torch.tensor(known.points), 1.0)

    def set_head(self, head: int, latent: Tensor | None = None) -> None:
        """Set a test head with its latent; None: the one that stage encoder found."""
        if latent is None:
            w_plus = load_latents(self.outputs / "encoder" / "latents.safetensors")["test"]
            if head >= len(w_plus):
                raise UserError(f"there is no test head {head}; there are {len(w_plus)}, from 0 on")
            latent = w_plus[head : head + 1]
        self.editor.set_latents(latent)
        self.editor.photos = torch.as_tensor(load_images(self.outputs / "data" / "test.zip", [head]))

    @property
    def current(self) -> Edited | None:
        if self._moved is not None:
            self._current, self._moved = self.editor.apply(self._moved), None
        return self._current

    @property
    def image(self) -> Tensor:
        """The picture as it is now.  # uint8 [3, H, W]"""
        if self._moved is not None:
            vector = combined(*requested(self.editor.vectors, self._moved))
            return self.editor.render(apply_vector(self.editor.w_plus, vector))[0].cpu()
        return (self.editor.reconstruct() if self.current is None else self.current.images)[0]

    @property
    def mask(self) -> Tensor:
        """Its predicted part labels.  # uint8 [H, W]"""
        return (self.editor.segment() if self.current is None else self.current.masks)[0]

    @property
    def w_plus(self) -> Tensor:
        """Its latent.  # [1, num_ws, w_dim]"""
        return self.editor.w_plus if self.current is None else self.current.w_plus

    @property
    def result(self) -> Edited:
        """What all edits since the start made of the picture, also if the last one was undone or kept."""
        if self.current is not None:
            return self.current
        editor, images = self.editor, self.editor.reconstruct()
        masks = editor.segment() if editor.class_names else torch.zeros_like(images[:, 0])
        nowhere = torch.zeros_like(masks, dtype=torch.bool)
        return Edited(images, masks, start=editor.w_plus, w_plus=editor.w_plus, region=nowhere, parts=((),))

    def whole(self) -> Image.Image:
        """The result: the full-size photo with the edits blended in, or else the picture as it is now."""
        if self.photo is None:
            return to_pil(self.image)
        return self.editor.blend(self.result, read_photo(self.photo[0]), {0: self.photo[1]}).to_pil()

    # --- edits -----------------------------------------------------------------------------------------------------

    def edit(self, mask: Tensor, *, steps: int | None = None, preview: Preview | None = None) -> Edited:
        """Optimise the picture towards an edited mask [H, W] (`Editor.edit`). If that fails, nothing has changed."""
        self._check_room()
        before, counted = (self.current, copy.copy(self.editor)), Counted(preview)
        self._settle()
        try:
            self._current = self.editor.edit(mask, steps=steps, preview=counted)
        except BaseException:
            self._current, self.editor = before
            raise
        png = encode_mask(mask.to(torch.uint8).numpy(), self.editor.palette.numpy())
        self.actions.append(EditAction(mask=base64.b64encode(png).decode(), steps=counted.steps))
        return self.current

    def move(self, edits: dict[str, float]) -> None:
        """Add vectors at these strengths, in place of those of a `move` or `apply` just before; all 0: none.

        Only `image` is made at once. What needs the segmentation waits until `current` is asked for.

        Raises:
            UserError: an unknown vector, or an invalid strength.
        """
        edits = {name: float(strength) for name, strength in edits.items() if strength}
        if edits:
            requested(self.editor.vectors, edits)
        if self.actions and isinstance(self.actions[-1], ApplyAction):
            self.drop()
        if not edits:
            return
        self._check_room()
        self._settle()
        self.actions.append(ApplyAction(edits=edits))
        self._moved = edits

    def apply(self, edits: dict[str, float], *, refine: int = 0, preview: Preview | None = None) -> Edited | None:
        """`move`, then refine (`Editor.apply`); returns None if all strengths are 0."""
        self.move(edits)
        if refine and self._moved is not None:
            counted = Counted(preview)
            self._current = self.editor.apply(self._moved, refine=refine, preview=counted)
            self.actions[-1], self._moved = ApplyAction(edits=self._moved, refine=counted.steps), None
        return self.current

    def keep(self, name: str) -> EditingVector:
        """Make the last edit a vector: `apply({name: 1.0})` then gives the same picture again.

        Raises:
            UserError: there is no edit, or the name is taken or invalid.
        """
        if self.current is None:
            raise UserError("there is no edit to keep; paint and optimise, or move a slider first")
        try:
            action = KeepAction(name=name)
        except ValidationError:
            raise UserError(f"the name {name[:50]!r} is not possible: use 1 to 40 letters, digits and _") from None
        if name in self.editor.vectors:
            raise UserError(f"there is a vector with the name {name} already; choose another name")
        self._check_room()
        vector = self.editor.vector_of(name, self.current, source="session")
        self.actions.append(action)
        self._current = None
        return vector

    def drop(self) -> None:
        """Undo the last edit, unless another one was started on top of it."""
        if self._current is not None or self._moved is not None:
            self.actions.pop()
            self._current = self._moved = None

    def _settle(self) -> None:
        """Let the next edit start from the result of the last one."""
        if self.current is not None:
            self.editor.go_on(self.current)
            self._current = None

    def _check_room(self) -> None:
        if len(self.actions) >= MOST_ACTIONS:
            raise UserError(f"a session holds at most {MOST_ACTIONS} edits; start again from a picture")

    # --- the record ------------------------------------------------------------------------------------------------

    def record(self) -> Record:
        """What was done, for `repeat`.

        Raises:
            UserError: no picture was chosen.
        """
        if self.began is None:
            raise UserError("no picture was chosen yet")
        used = {name for action in self.actions if isinstance(action, ApplyAction) for name in action.edits}
        used -= kept_in(self.actions)  # vectors that were kept before another start are named, like all others
        return Record(
            generator=fingerprint(self.editor.G.state_dict()),
            segmentation=fingerprint(self.editor.S.state_dict()),
            settings=self.editor.settings,
            vectors={name: fingerprint({"": self.editor.vectors[name].delta_w_plus}) for name in sorted(used)},
            start=self.began,
            latent=None if isinstance(self.began, SeedStart) else encoded_latent(self.latent),
            actions=self.actions,
        )


class Counted:
    """A preview that counts the steps, so that an edit that was stopped can be repeated."""

    def __init__(self, preview: Preview | None) -> None:
        self.preview, self.steps = preview, 0

    def __call__(self, step: int, steps: int, w_plus: Tensor) -> bool:
        self.steps = step
        return self.preview is not None and bool(self.preview(step, steps, w_plus))


def repeat(editor: Editor, outputs: Path, record: Record, photo: Path | None = None) -> Session:
    """Repeat a session.

    Raises:
        UserError: the session was made with another generator or segmentation, a vector is missing or another one, or
            another photo.
    """
    if fingerprint(editor.G.state_dict()) != record.generator:
        raise UserError("the session was made with another generator; give the outputs of that one with --outputs")
    if record.segmentation not in (None, fingerprint(editor.S.state_dict())):
        raise UserError("the session was made with another segmentation; give the outputs of that one with --outputs")
    for name, known in record.vectors.items():
        if name not in editor.vectors or fingerprint({"": editor.vectors[name].delta_w_plus}) != known:
            fault = "is another one" if name in editor.vectors else "is missing"
            raise UserError(f"the vector {name} {fault}; give the folder with the session's vectors with --vectors")
    session = Session(editor, outputs)
    session.editor.settings = record.settings
    for name in kept_in(record.actions):  # also if the file of such a vector was put where the editor found it
        session.editor.vectors.pop(name, None)
    size = editor.G.num_ws, editor.G.w_dim
    session.start(record.start, photo, None if record.latent is None else decoded_latent(record.latent, *size))
    for number, action in enumerate(record.actions, 1):
        try:
            if isinstance(action, EditAction):
                side = editor.G.img_resolution
                options = dict(resolution=side, classes=len(editor.class_names), palette=editor.palette.numpy())
                session.edit(read_mask(decoded(action.mask, "the mask", side), **options), steps=action.steps)
            elif isinstance(action, ApplyAction):
                session.apply(action.edits, refine=action.refine)
            else:
                session.keep(action.name)
        except UserError as fault:
            raise UserError(f"action {number} of the session cannot be repeated: {fault}") from fault
    return session
