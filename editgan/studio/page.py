"""What happens on the page when something is pressed, moved or painted."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from html import escape
from inspect import isgeneratorfunction
from pathlib import Path
from typing import Any

import gradio as gr
import torch
from PIL import Image

from editgan.editor.edited import Edited
from editgan.editor.record import HeadStart, SeedStart
from editgan.errors import UserError
from editgan.images import colourize, to_pil
from editgan.studio.layout import LARGEST_SEED, REFINE, Layout
from editgan.studio.pictures import background, enlarged, figures, layer_of, outlined, painted_mask
from editgan.studio.visits import Moment, Visit, Visits

HEAVY = dict(concurrency_id="computing", concurrency_limit=1, show_progress="hidden")  # one at a time for all pages
LIGHT = dict(show_progress="hidden", concurrency_limit=4)
# The editor can miss its final width while its tab opens. It then follows the next change of width.
NUDGE = """() => {
    const canvas = document.querySelector("#canvas");
    canvas.style.width = "calc(100% - 2px)";
    setTimeout(() => { canvas.style.width = ""; }, 300);
}"""
# Whether the tab with the files is open.
SAVING = """() => [document.querySelector("#take_picture")?.checkVisibility() ?? false]"""
WAITING = "Waiting to start: one optimisation runs at a time, of all open pages ..."
WAIT = 5.0  # seconds that a handler waits for another one of the same page
Changes = dict[Any, Any]  # new values by component


def told(work: Callable) -> Callable:
    """Show errors that the user can fix as a message on the page."""
    if isgeneratorfunction(work):

        @wraps(work)
        def shown(*arguments: Any) -> Iterator[Any]:
            try:
                yield from work(*arguments)
            except UserError as fault:
                raise gr.Error(escape(str(fault)), print_exception=False) from None
    else:

        @wraps(work)
        def shown(*arguments: Any) -> Any:
            try:
                return work(*arguments)
            except UserError as fault:
                raise gr.Error(escape(str(fault)), print_exception=False) from None

    return shown


def remark(text: str) -> None:
    """Say on the page how an upload was read."""
    gr.Info(escape(text), title="Note")


def sentence(said: str) -> str:
    return f"{said[:1].upper()}{said[1:]}."


class Page:
    """The handlers. Each gets the id of the browser's page, and returns new values of components."""

    def __init__(self, layout: Layout, visits: Visits) -> None:
        self.at, self.visits = layout, visits
        with layout.blocks:
            self._connect()

    def _connect(self) -> None:
        at = self.at
        picture, sliders = [at.picture, at.status], [*at.sliders.values(), *at.slots]
        canvas = [at.canvas, at.wanted, at.mask_down]
        new = [*picture, at.compare, at.masks, at.wanted, at.seed, at.own_group, *sliders]
        slow = HEAVY | dict(show_progress="full", show_progress_on=at.picture)  # embedding takes seconds
        files = [*at.downloads.values(), at.kept_files]
        run = [*new, at.optimise, at.refine, at.stop, at.stop_refining]
        again = dict(fn=told(self.saved_again), inputs=at.saving, outputs=files, js=SAVING, **LIGHT)
        at.blocks.load(told(self.opened), None, new, **LIGHT)
        at.blocks.unload(self.closed)
        at.show.click(told(self.sampled), at.seed, new, **LIGHT)
        at.next.click(told(self.sampled_next), at.seed, new, **LIGHT)
        at.upload.upload(self.uploaded, at.upload, [*new, at.faces, at.upload], **slow)
        at.faces.select(told(self.face_chosen), None, new, **slow)
        if at.heads is not None:
            at.heads.select(told(self.head_chosen), None, new, **slow)
        at.paint_tab.select(told(self.canvas_shown), at.opacity, canvas, **LIGHT).then(None, js=NUDGE)
        at.opacity.input(told(self.faded), [at.opacity, at.canvas], at.canvas, trigger_mode="always_last", **LIGHT)
        at.part.input(None, at.part, at.canvas, js=at.brush_script())
        at.canvas.clear(told(self.cleared), at.opacity, canvas, **LIGHT)
        at.canvas.input(told(self.painted), at.canvas, canvas[1:], trigger_mode="always_last", **LIGHT)
        at.mask_up.upload(told(self.mask_uploaded), [at.mask_up, at.opacity], canvas, **LIGHT)
        at.optimise.click(told(self.painted_last), at.canvas, [*canvas[1:], at.status], **LIGHT).success(
            told(self.optimised), None, run, **HEAVY
        ).success(told(self.canvas_shown), at.opacity, canvas, **LIGHT).success(**again)
        at.refine.click(lambda: WAITING, None, at.status, **LIGHT).success(
            told(self.refined), None, run, **HEAVY
        ).success(**again)
        for stop in (at.stop, at.stop_refining):
            stop.click(told(self.stopped), None, None, queue=False)
        for name, slider in [*at.sliders.items(), *enumerate(at.slots)]:
            slider.input(told(self._mover(name)), slider, picture, trigger_mode="always_last", **LIGHT)
        at.reset.click(told(self.reset), None, new, **LIGHT)
        for button, name in ((at.keep_edit, at.edit_name), (at.keep_sum, at.sum_name)):
            button.click(told(self.kept), name, [*new, at.edit_name, at.sum_name], **LIGHT)
        for button, work in ((at.undo, self.undone), (at.again, self.begun_again)):
            button.click(told(work), None, new, **LIGHT).success(
                told(self.canvas_shown), at.opacity, canvas, **LIGHT
            ).success(**again)
        at.save_tab.select(self.unsaved, None, files, **LIGHT).success(told(self.saved), None, files, **LIGHT)

    @contextmanager
    def _turn(self, request: gr.Request) -> Iterator[Visit]:
        """The page, with nothing else running on it."""
        visit = self.visits.get(request.session_hash)
        if not visit.turn.acquire(timeout=WAIT):
            raise UserError("something is still being computed on this page; wait, or press Stop")
        try:
            yield visit
        finally:
            visit.turn.release()

    # --- the picture -----------------------------------------------------------------------------------------------

    def opened(self, request: gr.Request) -> Changes:
        visit = self.visits.open(request.session_hash)
        visit.session.start(SeedStart(seed=0))
        return self._all(visit, "A picture that the model draws. Choose another one, or paint on it.") | {
            self.at.seed: 0
        }

    def closed(self, request: gr.Request) -> None:
        self.visits.close(request.session_hash)

    def sampled(self, seed: float | None, request: gr.Request) -> Changes:
        if seed is None or not 0 <= seed <= LARGEST_SEED:
            raise UserError(f"the seed is {seed}; give a whole number from 0 to {LARGEST_SEED}")
        with self._turn(request) as visit:
            visit.session.start(SeedStart(seed=int(seed)))
            visit.begin()
            said = f"Seed {int(seed)}. The model draws this picture itself, so it can be represented."
            return self._all(visit, said) | {self.at.seed: int(seed)}

    def sampled_next(self, seed: float | None, request: gr.Request) -> Changes:
        return self.sampled((int(seed or 0) + 1) % LARGEST_SEED, request)

    def head_chosen(self, chosen: gr.SelectData, request: gr.Request) -> Changes:
        with self._turn(request) as visit:
            visit.session.start(HeadStart(head=int(chosen.index)))
            visit.begin()
            return self._all(visit, self._represented(visit))

    def uploaded(self, path: str | None, request: gr.Request) -> Changes:
        """Not `told`: the box of the upload has to be cleared after an error, too."""
        try:
            with self._turn(request) as visit:
                faces = visit.upload(Path(path), remark)
                shown = [(enlarged(face), f"face {number}") for number, face in enumerate(faces, 1)]
                changes = {self.at.faces: gr.Gallery(shown, visible=bool(faces)), self.at.upload: None}
                if faces:
                    return changes | {self.at.status: f"{len(faces)} faces were found. Choose one."}
                return changes | self._all(visit, self._represented(visit))
        except UserError as fault:
            gr.Warning(escape(str(fault)), title="Not usable")
            return {self.at.upload: None}

    def face_chosen(self, chosen: gr.SelectData, request: gr.Request) -> Changes:
        with self._turn(request) as visit:
            visit.choose(int(chosen.index))
            return self._all(visit, self._represented(visit))

    def _represented(self, visit: Visit) -> str:
        return sentence(str(visit.session.editor.representation()[0])).replace(" %", "&nbsp;%")

    # --- the mask --------------------------------------------------------------------------------------------------

    def canvas_shown(self, opacity: float, request: gr.Request) -> Changes:
        """The painting area with the picture as it is now, and what was painted on it."""
        if not self.at.names:
            return {}
        with self._turn(request) as visit:
            session, palette = visit.session, self.at.editor.palette
            below = background(session.image, session.mask, palette, opacity)
            layers = [] if visit.wanted is None else [layer_of(visit.wanted, session.mask, palette)]
            return {self.at.canvas: {"background": below, "layers": layers, "composite": None}} | self._asked(visit)

    def cleared(self, opacity: float, request: gr.Request) -> Changes:
        """Gradio's editor also removes the picture below the strokes, so it is shown again."""
        with self._turn(request) as visit:
            visit.wanted = None
        return self.canvas_shown(opacity, request)

    def faded(self, opacity: float, canvas: dict[str, Any], request: gr.Request) -> Changes:
        with self._turn(request) as visit:
            below = background(visit.session.image, visit.session.mask, self.at.editor.palette, opacity)
            return {self.at.canvas: canvas | {"background": below, "composite": None}}

    def painted(self, canvas: dict[str, Any], request: gr.Request) -> Changes:
        with self._turn(request) as visit:
            mask = visit.session.mask
            wanted = painted_mask(canvas["layers"], mask, self.at.editor.palette)
            visit.wanted = None if bool((wanted == mask).all()) else wanted
            return self._asked(visit)

    def painted_last(self, canvas: dict[str, Any], request: gr.Request) -> Changes:
        return self.painted(canvas, request) | {self.at.status: WAITING}

    def mask_uploaded(self, path: str, opacity: float, request: gr.Request) -> Changes:
        with self._turn(request) as visit:
            visit.upload_mask(Path(path), remark)
        return self.canvas_shown(opacity, request)

    def _asked(self, visit: Visit) -> Changes:
        """The painted mask as a picture, with the painted region outlined, and as a file."""
        session, at = visit.session, self.at
        file = str(visit.mask_file())
        if visit.wanted is None:
            return {at.wanted: "<p>Nothing is painted yet.</p>", at.mask_down: file}
        changed = visit.wanted != session.mask
        colours = enlarged(colourize(visit.wanted[None], at.editor.palette)[0], smooth=False)
        parts = sorted({at.names[label].replace("_", " ") for label in visit.wanted[changed].tolist()})
        said = f"<p>{int(changed.sum())} pixels are painted: {', '.join(parts)}.</p>"
        shown = (("Painted region", outlined(enlarged(session.image), changed)), ("Mask wanted", colours))
        return {at.wanted: said + figures(*shown), at.mask_down: file}

    # --- edits -----------------------------------------------------------------------------------------------------

    def optimised(self, request: gr.Request) -> Iterator[Changes]:
        with self._turn(request) as visit:
            before, wanted = visit.session.image, visit.wanted
            yield from self._run(visit, visit.optimise(), "Optimising")
            edited = visit.session.current
            outcome = visit.session.editor.outcomes(edited, wanted)[0]
            verdict = sentence(outcome.fault or "the edit succeeded")
            said = f"<b>{verdict}</b> {sentence(outcome.facts).replace('_', ' ')}"
            colours = colourize(torch.stack([wanted, edited.masks[0]]), self.at.editor.palette)  # [2, 3, H, W]
            shown = [enlarged(one, smooth=False) for one in colours]
            masks = figures(("Mask wanted", shown[0]), ("Mask reached", shown[1]))
            visit.wanted = None
            yield self._all(visit, said, before) | {self.at.masks: masks} | self._idle()

    def refined(self, request: gr.Request) -> Iterator[Changes]:
        with self._turn(request) as visit:
            before = visit.session.editor.reconstruct()[0]
            yield from self._run(visit, visit.refine(REFINE), "Refining")
            outcome = visit.session.editor.outcomes(visit.session.current)[0]
            change = f"change {outcome.inside:.1f} grey levels inside the region, {outcome.outside:.1f} outside"
            yield self._all(visit, f"Refined: {change}.", before) | self._idle()

    def _run(self, visit: Visit, moments: Iterator[Moment | Edited], doing: str) -> Iterator[Changes]:
        """Show the moments of an optimisation, with a button to stop it."""
        at = self.at
        buttons = [gr.Button(interactive=False)] * 2 + [gr.Button(interactive=True)] * 2
        yield dict(zip((at.optimise, at.refine, at.stop, at.stop_refining), buttons, strict=True)) | {
            at.status: f"{doing} ..."
        }
        try:
            for moment in moments:
                if isinstance(moment, Moment):
                    said = f"{doing}: step {moment.step} of {moment.steps}, about {moment.seconds_left:.0f} s left."
                    bar = f'<progress max="{moment.steps}" value="{moment.step}"></progress>'
                    yield {at.picture: figures((doing, moment.picture)), at.status: said + bar}
        except Exception as fault:
            said = str(fault) if isinstance(fault, UserError) else f"the edit failed ({type(fault).__name__}: {fault})"
            yield self._idle() | {at.status: escape(sentence(said))}
            raise

    def _idle(self) -> Changes:
        at = self.at
        buttons = [gr.Button(interactive=True)] * 2 + [gr.Button(interactive=False)] * 2
        return dict(zip((at.optimise, at.refine, at.stop, at.stop_refining), buttons, strict=True))

    def stopped(self, request: gr.Request) -> None:
        self.visits.get(request.session_hash).stop.set()

    def _mover(self, slider: str | int) -> Callable[[float, gr.Request], Changes]:
        """The handler of a vector's slider, by the vector's name or by the number of a kept one."""

        def moved(strength: float, request: gr.Request) -> Changes:
            with self._turn(request) as visit:
                visit.move(slider if isinstance(slider, str) else visit.kept[slider], strength)
                set_to = ", ".join(f"{name} {value:g}" for name, value in visit.strengths.items() if value)
                return {self.at.picture: self._picture(visit), self.at.status: set_to or "All sliders are at 0."}

        return moved

    def reset(self, request: gr.Request) -> Changes:
        with self._turn(request) as visit:
            visit.strengths = {}
            visit.session.apply({})
            return self._all(visit, "All sliders are at 0.")

    def kept(self, name: str, request: gr.Request) -> Changes:
        with self._turn(request) as visit:
            visit.keep(name.strip())
            said = f"Kept as {visit.kept[-1]}: its slider is on the tab of the vectors, its file on the last tab."
            return self._all(visit, said) | {self.at.edit_name: "", self.at.sum_name: ""}

    def undone(self, request: gr.Request) -> Changes:
        with self._turn(request) as visit:
            if visit.session.current is None:
                raise UserError("only the last edit can be undone; `Back to the start` undoes all")
            visit.session.drop()
            visit.begin()
            return self._all(visit, "The last edit is undone.")

    def begun_again(self, request: gr.Request) -> Changes:
        with self._turn(request) as visit:
            visit.restart()
            return self._all(visit, "All edits are undone; kept vectors stay.")

    def saved(self, request: gr.Request) -> Changes:
        with self._turn(request) as visit:
            files = visit.files()
            vectors = [str(path) for kind, path in files.items() if kind not in self.at.downloads]
            buttons = {
                button: gr.DownloadButton(value=str(files[kind]), interactive=True)
                for kind, button in self.at.downloads.items()
                if kind in files
            }
            return buttons | {self.at.kept_files: gr.File(vectors, visible=bool(vectors))}

    def unsaved(self) -> Changes:
        """Until the files are written, there is nothing to take away."""
        return {button: gr.DownloadButton(interactive=False) for button in self.at.downloads.values()}

    def saved_again(self, saving: bool, request: gr.Request) -> Changes:
        """Write the files again if their tab is open while the picture changes."""
        return self.saved(request) if saving else {}

    # --- what is shown ---------------------------------------------------------------------------------------------

    def _picture(self, visit: Visit) -> str:
        """The picture, and beside it the one it was made from."""
        session = visit.session
        now = "Picture" if session.editor.photos is None else "Reconstruction"
        shown = [("Edited" if session.actions else now, to_pil(session.image))]
        if session.editor.photos is not None:
            shown.insert(0, ("As given", to_pil(session.editor.photos[0])))
        return figures(*shown)

    def _all(self, visit: Visit, said: str, before: Any = None) -> Changes:
        """Everything that depends on the picture; `before`: what to compare it with."""
        at = self.at
        pair: tuple[Image.Image, Image.Image] | None = None
        if before is not None:
            pair = enlarged(before), enlarged(visit.session.image)
        changes = {
            at.picture: self._picture(visit),
            at.status: said,
            at.compare: gr.ImageSlider(pair, visible=pair is not None),
            at.masks: "",
            at.wanted: "",
            at.own_group: gr.Group(visible=bool(visit.kept)),
        }
        for name, slider in at.sliders.items():
            changes[slider] = visit.strengths.get(name, 0)
        for number, slider in enumerate(at.slots):
            name = visit.kept[number] if number < len(visit.kept) else None
            value = visit.strengths.get(name, 0) if name else 0
            changes[slider] = gr.Slider(value=value, label=name or "-", visible=name is not None)
        return changes
