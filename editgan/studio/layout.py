"""What is on the page, in Gradio components."""

import json
from collections.abc import Sequence
from pathlib import Path

import gradio as gr
import torch

from editgan.data.archive import count, load_images
from editgan.editing.vectors import MEAN
from editgan.editor.editor import Editor
from editgan.studio.pictures import enlarged, enlargement
from editgan.studio.visits import MOST_KEPT

OFFERED = 12  # test pictures
REFINE = 30  # steps, as in the paper
STRONGEST = 2.0  # of a slider, in both directions
CACHE = (600, 7200)  # look every ten minutes for pictures of Gradio that are older than two hours, and remove them
LARGEST_SEED = 2**31 - 1


def new_blocks() -> gr.Blocks:
    return gr.Blocks(title="EditGAN studio", analytics_enabled=False, delete_cache=CACHE)


class Layout:
    """The components of a model's page. They show nothing of any session: `Page` fills them.

    Args:
        blocks: where the page is built; of several models, each has a page, and `models` are their names
    """

    def __init__(
        self, editor: Editor, outputs: Path, blocks: gr.Blocks | None = None, models: Sequence[str] = ()
    ) -> None:
        self.editor, self.outputs, self.blocks, self.models = editor, outputs, blocks or new_blocks(), models
        self.names = self.editor.class_names
        self.colours = ["#{:02x}{:02x}{:02x}".format(*row) for row in self.editor.palette.tolist()]
        self.sliders: dict[str, gr.Slider] = {}
        self.slots: list[gr.Slider] = []
        self.build()

    def build(self) -> None:
        side = self.editor.G.img_resolution
        with self.blocks:
            if len(self.models) > 1:
                gr.Navbar(main_page_name=self.models[0])
            gr.HTML(f"<style>{self.swatches}</style>", visible="hidden")
            facts = f"{side} px, {len(self.names)} parts, {len(self.editor.vectors)} vectors"
            if not self.names:
                facts += ". This generator has no segmentation yet, so there is nothing to paint on (docs/import.md)"
            gr.HTML(
                f"<h1>EditGAN studio</h1><p>{facts}. Pictures stay on the computer that runs the studio.</p>",
                elem_id="title",
                padding=False,
            )
            with gr.Row():
                with gr.Column(scale=4, min_width=320, elem_id="left"):
                    self.picture = gr.HTML(elem_id="picture", container=False, padding=False)
                    self.status = gr.HTML(elem_id="status", container=False, padding=False)
                    with gr.Row(elem_classes="buttons"):
                        self.undo = gr.Button("Undo the last edit", size="sm", min_width=100)
                        self.again = gr.Button("Back to the start", size="sm", min_width=100)
                    self.compare = gr.ImageSlider(
                        label="Before and after the last optimisation", visible=False, interactive=False, buttons=[],
                        elem_id="compare", format="png", max_height=420,
                    )  # fmt: skip
                    self.masks = gr.HTML(elem_id="masks", container=False, padding=False)
                with gr.Column(scale=5, min_width=320, elem_id="right"), gr.Tabs():
                    with gr.Tab("1 Picture"):
                        self._choice()
                    with gr.Tab("2 Paint", visible=bool(self.names)) as self.paint_tab:
                        self._paint()
                    with gr.Tab("3 Vectors"):
                        self._vectors()
                    with gr.Tab("4 Save") as self.save_tab:
                        self._take_away()

    def _choice(self) -> None:
        gr.Markdown("Choose what to edit: a picture that the model draws, a test picture, or one of yours.")
        with gr.Row(equal_height=True):
            self.seed = gr.Number(0, label="Seed", precision=0, minimum=0, maximum=LARGEST_SEED, min_width=120)
            self.show = gr.Button("Show this seed", min_width=120)
            self.next = gr.Button("Next seed", variant="primary", min_width=120)
        archive = self.outputs / "data" / "test.zip"
        self.heads = None
        if archive.exists():
            number = min(OFFERED, count(archive))
            pictures = [enlarged(torch.as_tensor(one)) for one in load_images(archive, range(number))]
            gr.Markdown("Test pictures, which the model has not seen in training:")
            self.heads = gr.Gallery(
                pictures, label="Test pictures", show_label=False, columns=6, height="auto",
                object_fit="cover", allow_preview=False, interactive=False, buttons=[], elem_id="heads", format="png",
            )  # fmt: skip
        side = self.editor.G.img_resolution
        faces = f"a photo of any size, or an aligned face of {side} px"
        wanted = faces if self.editor.protocol.faces else "square, and framed like the test pictures"
        self.upload = gr.File(
            label=f"Your picture: {wanted}",
            file_count="single", type="filepath", height=150, elem_id="upload",
            file_types=[".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif"],
        )  # fmt: skip
        self.faces = gr.Gallery(
            label="Faces found; choose one", visible=False, columns=6, height="auto", allow_preview=False,
            interactive=False, buttons=[], elem_id="faces", format="png",
        )  # fmt: skip

    def _paint(self) -> None:
        self.part = gr.Radio(
            [(name.replace("_", " "), name) for name in self.names], value=self._first_part() or None,
            label="Part to paint", elem_id="parts",
        )  # fmt: skip
        with gr.Row(elem_classes="buttons"):
            self.optimise = gr.Button("Optimise", variant="primary", min_width=120, elem_id="optimise")
            self.stop = gr.Button("Stop", variant="stop", interactive=False, min_width=80, elem_id="stop")
            self.mask_down = gr.DownloadButton("Save mask", min_width=120, elem_id="mask_down")
            self.mask_up = gr.UploadButton("Load mask", min_width=120, file_types=[".png"], elem_id="mask_up")
        self.canvas = gr.ImageEditor(
            type="pil", sources=[], transforms=[], buttons=[], show_label=False, format="png", elem_id="canvas",
            layers=gr.LayerOptions(allow_additional_layers=False, disabled=True), brush=self._brush(self._first_part()),
            eraser=gr.Eraser(default_size=self._brush_size()), canvas_size=(self._side(), self._side()),
            fixed_canvas=True, height=560,
        )  # fmt: skip
        gr.Markdown(
            "Brush, eraser (back to what it was), colours and sizes are at the left, move, zoom, undo and redo at the "
            "top right.", elem_classes="hint",
        )  # fmt: skip
        self.opacity = gr.Slider(0, 1, 0.45, step=0.05, label="Opacity of the mask over the picture", buttons=[])
        self.wanted = gr.HTML(elem_id="wanted", container=False, padding=False)
        with gr.Row(elem_classes="buttons", equal_height=True):
            self.edit_name = gr.Textbox(label="Name", placeholder="my_smile", max_length=40, elem_id="edit_name")
            self.keep_edit = gr.Button("Keep this edit as a vector", elem_id="keep_edit")

    def _vectors(self) -> None:
        gr.Markdown("Move several sliders; the picture follows. `_mean` vectors are the mean of several heads.")
        with gr.Row(elem_classes="buttons"):
            self.refine = gr.Button(f"Refine ({REFINE} steps)", variant="primary", min_width=120, elem_id="refine")
            self.stop_refining = gr.Button("Stop", variant="stop", interactive=False, min_width=80)
            self.reset = gr.Button("Reset the sliders", min_width=120, elem_id="reset")
        with gr.Group(visible=False) as self.own_group:
            gr.HTML("<b>Kept on this page</b>", elem_classes="group", padding=False)
            with gr.Row(elem_classes="sliders"):
                for number in range(MOST_KEPT):
                    self.slots.append(
                        gr.Slider(-STRONGEST, STRONGEST, 0, step=0.05, label="-", visible=False, min_width=220,
                                  buttons=[], elem_id=f"kept_{number}")
                    )  # fmt: skip
        for group, names in self._groups().items():
            with gr.Accordion(group, open=len(self.sliders) < 8), gr.Row(elem_classes="sliders"):
                for name in names:
                    self.sliders[name] = gr.Slider(
                        -STRONGEST,
                        STRONGEST,
                        0,
                        step=0.05,
                        label=name,
                        min_width=220,
                        buttons=[],
                        elem_id=f"slider_{name}",
                    )
        with gr.Row(elem_classes="buttons", equal_height=True):
            self.sum_name = gr.Textbox(label="Name", placeholder="my_mix", max_length=40, elem_id="sum_name")
            self.keep_sum = gr.Button("Keep the sum as a vector", elem_id="keep_sum")

    def _take_away(self) -> None:
        gr.Markdown(
            "The files are made when this tab is opened. The server removes them with the page.\n\n"
            "- Picture: the photo at full size if it was a photo. Use the mask in a painting program.\n"
            "- Latent: `editgan apply latent.safetensors --edit NAME`.\n"
            "- Session: `editgan apply --session session.json` makes the same picture again "
            "(of a photo: `editgan apply photo.jpg --session session.json`).\n"
            "- Vectors: put them into `vectors/`, and all commands and this page know them."
        )
        with gr.Row(elem_classes="buttons"):
            self.downloads = {
                kind: gr.DownloadButton(label, interactive=False, min_width=100, elem_id=f"take_{kind}")
                for kind, label in (("picture", "Picture"), ("mask", "Mask"), ("latent", "Latent"),
                                    ("session", "Session"))
            }  # fmt: skip
        self.saving = gr.Checkbox(visible=False)  # carries whether this tab is open
        self.kept_files = gr.File(label="Vectors kept on this page", file_count="multiple", visible=False,
                                  interactive=False)  # fmt: skip

    @property
    def swatches(self) -> str:
        """The colours of the parts beside their names, as CSS."""
        return "".join(
            f"#parts label:nth-of-type({number}) {{ --part: {colour}; }}"
            for number, colour in enumerate(self.colours, 1)
        )

    def _side(self) -> int:
        return self.editor.G.img_resolution * enlargement(self.editor.G.img_resolution)

    def _brush_size(self) -> int:
        return max(4, self._side() // 50)

    def _brush(self, part: str) -> gr.Brush:
        colour = dict(zip(self.names, self.colours, strict=False)).get(part, "#000000")
        return gr.Brush(default_size=self._brush_size(), colors=self.colours, default_color=colour, color_mode="fixed")

    def brush_script(self) -> str:
        """A function of JavaScript that changes the brush to a part's colour, before the next stroke can begin.

        It also takes the brush in place of the eraser.
        """
        brush = {"default_size": self._brush_size(), "colors": self.colours, "color_mode": "fixed"}
        colours = json.dumps(dict(zip(self.names, self.colours, strict=False)))
        change = f"{{...{json.dumps(brush)}, default_color: {colours}[part]}}"
        take = "document.querySelector('#canvas button[aria-label=\"Brush\"]')?.click()"
        return f'(part) => {{ {take}; return {{"__type__": "update", "brush": {change}}}; }}'

    def _first_part(self) -> str:
        return "upper_lip" if "upper_lip" in self.names else [*self.names, ""][-1]

    def _groups(self) -> dict[str, list[str]]:
        """Names of the vectors by the parts they edit; the left and the right one of a part are together.

        Vectors that were made with another generator are left out.
        """
        groups: dict[str, list[str]] = {}
        origin = self.editor.origin
        for name, vector in sorted(self.editor.vectors.items(), key=lambda item: not item[0].endswith(MEAN)):
            if vector.generator and origin is not None and vector.generator != origin.sha256:
                continue
            parts = [part.removeprefix("left_").removeprefix("right_") for part in vector.region_classes]
            groups.setdefault(", ".join(dict.fromkeys(parts)).replace("_", " ").capitalize(), []).append(name)
        return dict(sorted(groups.items(), key=lambda item: -len(item[1])))
