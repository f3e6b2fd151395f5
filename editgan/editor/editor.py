"""The editor: load the trained networks once, then embed, segment and edit images (EditGAN, section 3)."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from editgan.assets.load import load_network
from editgan.assets.networks.winograd import use_winograd
from editgan.data.paste import paste_back
from editgan.data.photo import Face, Photo, blend
from editgan.data.protocol import SMILE, Protocol
from editgan.editing.optimize import edit_in_batches
from editgan.editing.params import ObjectiveWeights
from editgan.editing.refine import refine_edit
from editgan.editing.vectors import EditingVector, apply_vector, combined, save_vector
from editgan.editor.edited import Edited, Outcome, Preview, Progress, outcomes
from editgan.editor.likeness import Representation, represented
from editgan.editor.loading import find, require_segmentation
from editgan.editor.origin import Origin
from editgan.editor.request import around, check_counts, painted, requested
from editgan.editor.settings import Settings
from editgan.encoder.encoder import Encoder
from editgan.encoder.inversion import PULL, invert
from editgan.encoder.tuning import tune_generator
from editgan.errors import UserError
from editgan.generator.generator import TRUNCATION_PSI, Generator, synthesise
from editgan.images import to_float
from editgan.runtime.process import keep_freed_memory
from editgan.segmentation.ensemble import SegmentationEnsemble
from editgan.segmentation.labelled import sampled_latents
from editgan.segmentation.predict import render
from editgan.training import device_named
from editgan.weights import unused

BATCH = 16  # images at a time; affects speed and memory only
LARGEST_LATENT = 1e4  # limit of |w_plus|; typical entries are of order 1


@dataclass
class Editor:
    """One or several images to edit. Every call works on all of them, each independently.

        editor = Editor.load("outputs")
        editor.set_image(read_image("head.png"))
        mask = editor.segment()[0]                          # paint on it, then
        edited = editor.edit(mask)                          # mode 3: optimisation
        editor.save_vector("mine", edited)
        editor.apply({"smile": 1.2, "raise_brows": 0.5})    # mode 1: sum of vectors
        editor.apply({"mine": 1.0}, refine=30)              # mode 2: vectors, then self-supervised refinement

    Attributes:
        vectors: editing vectors by name.
        class_names, palette: names of the parts and their colours, uint8 [K, 3].
        photos: the images as given, uint8 [N, 3, H, W]; None if latents were set.
        w_plus: their latents, [N, num_ws, w_dim].
        settings: steps, rates and weights of the run, used by all methods unless you give others.
    """

    G: Generator
    E: Encoder
    S: SegmentationEnsemble
    lpips_vgg: nn.Module
    palette: Tensor
    vectors: dict[str, EditingVector] = field(default_factory=dict)
    device: torch.device = torch.device("cpu")
    outputs: Path | None = None  # folder with the generator's other networks and validation pictures
    assets: Path | None = None  # folder of the identity network, which is loaded when a loss first needs it
    settings: Settings = Settings()
    protocol: Protocol = SMILE  # whether the pictures are faces, and what measures how much of a picture is kept
    origin: Origin | None = None  # the generator's file; None: unknown
    shared: dict[str, Any] = field(default_factory=dict, repr=False)  # what copies of the editor compute only once
    photos: Tensor | None = field(default=None, init=False)
    _w_plus: Tensor | None = field(default=None, init=False)
    _before: tuple[Tensor, Tensor] | None = field(default=None, init=False)  # images and masks of `w_plus`, made once
    _first: tuple[Tensor, Tensor] | None = field(default=None, init=False)  # reconstructions, and regions of kept edits
    _trained: Generator | None = field(default=None, init=False)  # the trained generator while G is a tuned copy
    _identity_net: nn.Module | None = field(default=None, init=False)

    @classmethod
    def load(
        cls,
        outputs: str | Path = "outputs",
        device: str = "auto",
        *,
        vectors: str | Path | None = None,
        generator: str | Path | None = None,
    ) -> "Editor":
        """Load the networks and vectors from a folder of stage outputs, and your own vectors from folder `vectors`.
        The settings are those of the params.yaml beside `outputs`, or those of the default run if there is none.

        An imported generator (docs/import.md) works alone: without an encoder, embedding starts at the mean latent and
        takes 500 steps; what needs parts raises UserError until there is a segmentation. `generator` is the path of any
        G_ema.safetensors that is to work so; the networks in its folder of outputs are used if they are there.

        On a CPU the process keeps freed memory instead of returning it to the system (`keep_freed_memory`), which makes
        optimisation up to twice as fast.

        Raises:
            UserError: a model is missing or damaged, with the stage that writes it; two models do not belong together;
                or a wrong value in params.yaml.
        """
        found, chosen = find(outputs, generator), device_named(device)
        if chosen.type == "cpu":
            keep_freed_memory()
        lpips_vgg = use_winograd(load_network("lpips_vgg", found.assets)).to(chosen)
        return cls(lpips_vgg=lpips_vgg, device=chosen, assets=found.assets, **found.load(chosen, vectors))

    def copy(self) -> "Editor":
        """An editor with the same networks, and with images and vectors of its own."""
        return replace(self, G=self._trained or self.G, vectors=dict(self.vectors))

    @property
    def class_names(self) -> list[str]:
        return self.S.class_names

    @property
    def w_plus(self) -> Tensor:
        """Latents of the images that were set, [N, num_ws, w_dim]. Raises UserError: no image was set."""
        if self._w_plus is None:
            raise UserError("no image is set; call set_image(...) or set_latents(...) first")
        return self._w_plus

    def set_image(
        self,
        images: Tensor,
        *,
        steps: int | None = None,
        lr: float | None = None,
        pull: float = PULL,
        identity_weight: float = 0.0,
        progress: Progress | None = None,
    ) -> Tensor:
        """Embed images: the encoder's estimate, then optimisation in W+.

        Args:
            images: uint8 [3, H, W] or [N, 3, H, W], H = W = G.img_resolution
            steps, lr: of the optimisation (0 steps: encoder only); None: the run's. More steps need a lower rate.
            pull: weight of the distance to the encoder's estimate (`invert`)
            identity_weight: weight of 1 - cosine of dlib's face features; best identity: 4
        Returns:
            the reconstructions  # uint8 [N, 3, H, W]
        Raises:
            UserError: images of another size or type.
        """
        side, given = self.G.img_resolution, (getattr(images, "dtype", None), *getattr(images, "shape", ()))
        if not isinstance(images, Tensor) or given[0] != torch.uint8 or given[-3:] != (3, side, side):
            raise UserError(f"got images {type(images).__name__} {given}; give a uint8 tensor [N, 3, {side}, {side}]")
        steps, lr = self.settings.embedding(steps, lr)
        check_counts(steps=steps, identity_weight=identity_weight, pull=pull)
        images = images.reshape(-1, 3, side, side)
        floats, trained = to_float(images).to(self.device), self._trained or self.G
        options = dict(lr=lr, pull=pull, progress=progress)
        options |= dict(identity=self._identity(identity_weight), identity_weight=identity_weight)
        self.set_latents(invert(trained, self.E, self.lpips_vgg, floats, steps=steps, batch=BATCH, **options))
        self.photos = images.cpu()
        return self.render(self.w_plus)

    def set_latents(self, w_plus: Tensor) -> None:
        """Set latents [N, num_ws, w_dim] instead of images, e.g. sampled latents.

        Raises:
            UserError: latents of another generator, or NaN or infinite values.
        """
        if w_plus.ndim != 3 or w_plus.shape[1:] != (self.G.num_ws, self.G.w_dim):
            raise UserError(
                f"latents have shape {list(w_plus.shape)}, this generator takes [N, {self.G.num_ws}, {self.G.w_dim}]"
            )
        if not w_plus.isfinite().all():
            raise UserError("latents contain NaN or infinite values; embed the image again")
        if self._trained is not None:
            self.G, self._trained = self._trained, None
        self._w_plus, self.photos = w_plus.detach().to(self.device, torch.float32), None
        self._before = self._first = None

    def tune(self, *, steps: int = 100, lr: float = 0.001, progress: Progress | None = None) -> Tensor:
        """Fine-tune a copy of the generator on the photos that were set (pivotal tuning, Roich et al. 2021).

        All later edits of these photos use the copy. The next `set_image` or `set_latents` restores the trained
        generator. Works best with one photo at a time, because several photos share the copy.

        Returns:
            the new reconstructions  # uint8 [N, 3, H, W]
        Raises:
            UserError: latents were set, so there is no photo, or `go_on` was called.
        """
        if self.photos is None or self._first is not None:
            raise UserError("the generator can only be tuned to an image, but latents were set; set the image")
        images, trained = to_float(self.photos).to(self.device), self._trained or self.G
        self.G = tune_generator(self.G, self.lpips_vgg, self.w_plus, images, steps=steps, lr=lr, progress=progress)
        self._trained, self._w_plus = trained, self.w_plus.clone()  # a new tensor invalidates edits made before
        self._before = None
        return self.render(self.w_plus)

    def sample(self, seeds: list[int], truncation_psi: float = TRUNCATION_PSI) -> Tensor:
        """Sample one image per seed and set them, uint8 [N, 3, H, W]; `truncation_psi` < 1 truncates towards w_avg."""
        if not seeds:
            raise UserError("give at least one seed")
        self.set_latents(sampled_latents(self._trained or self.G, seeds, truncation_psi))
        return self.render(self.w_plus)

    def reconstruct(self) -> Tensor:
        """The generator's images of the latents that were set.  # uint8 [N, 3, H, W]"""
        return self._start()[0].clone()

    def segment(self) -> Tensor:
        """Predicted part labels of the images that were set.  # uint8 [N, H, W]"""
        require_segmentation(self.S)
        return self._start()[1].clone()

    def edit(
        self,
        masks: Tensor,
        roi: Tensor | None = None,
        *,
        steps: int | None = None,
        lr: float | None = None,
        weights: ObjectiveWeights | None = None,
        progress: Progress | None = None,
        preview: Preview | None = None,
    ) -> Edited:
        """Optimise the latents until the segmentation matches edited masks (EditGAN 3.2).

        Args:
            masks: edited masks, labels  # [H, W] or [N, H, W]
            roi: bool region where the masks apply, same shape; None: changed pixels and their `painted_parts`
            steps, lr, weights: of the optimisation; None: the run's editing.edit
            preview: sees every step and may stop the optimisation (`Preview`)
        Raises:
            UserError: masks of another size, with unknown labels, or without any change.
        """
        steps, lr, weights = self.settings.optimisation("edit", steps, lr, weights)
        check_counts(steps=steps)
        asked = painted(self.segment(), masks, roi, self.S)
        w_plus = edit_in_batches(
            self.G,
            self.S,
            self.lpips_vgg,
            self.w_plus,
            asked.masks.to(self.device),
            asked.region.to(self.device),
            batch=BATCH,
            progress=progress,
            preview=preview,
            weights=weights,
            steps=steps,
            lr=lr,
            identity=self._identity(weights.identity),
        )
        return self._edited(w_plus, asked.parts, asked.region)

    def apply(
        self,
        edits: Mapping[str, float | None],
        *,
        refine: int | None = 0,
        lr: float | None = None,
        weights: ObjectiveWeights | None = None,
        progress: Progress | None = None,
        preview: Preview | None = None,
    ) -> Edited:
        """Add editing vectors, each at its strength, then refine the sum if `refine` is not 0 (EditGAN 3.3).

        A vector that names no parts, or any vector without a segmentation, may change the whole picture.

        Args:
            edits: strengths by name; 1 is the mean learned edit, negative strengths reverse it, None is the vector's
                default
            refine, lr, weights: steps, rate and weights of the refinement; None: the run's editing.refine
            preview: sees every step of the refinement and may stop it (`Preview`)
        Raises:
            UserError: an unknown vector, no vector, or an invalid strength.
        """
        vectors, strengths = requested(self.vectors, edits, self.origin)
        refine, lr, weights = self.settings.optimisation("refine", refine, lr, weights)
        check_counts(refine=refine)
        vector = combined(vectors, strengths)
        w_edited = apply_vector(self.w_plus, vector)
        if not w_edited.abs().max() < LARGEST_LATENT:
            raise UserError(
                f"strengths {strengths} move the latents too far from the training distribution; use smaller strengths"
            )
        if refine:
            require_segmentation(self.S, vector)
            start, class_ids = self.w_plus, self.S.class_ids(vector.region_classes)
            options = dict(weights=weights, identity=self._identity(weights.identity), batch=BATCH, progress=progress)
            networks, options["preview"] = (self.G, self.S, self.lpips_vgg), preview
            w_edited = refine_edit(*networks, start, w_edited, class_ids, steps=refine, lr=lr, **options)
        bounded = all(self.S.class_ids(one.region_classes) for one in vectors)
        whole = None if bounded else torch.ones_like(self._start()[1], dtype=torch.bool)
        return self._edited(w_edited, (vector.region_classes,) * len(w_edited), whole)

    def paste(self, edited: Edited) -> Tensor:
        """Paste the edited regions into the photos that were set.  # uint8 [N, 3, H, W]

        Raises:
            UserError: latents were set, so there is no photo, or the edit belongs to other photos.
        """
        if self.photos is None:
            raise UserError("there is no photo to paste into: latents were set, not images")
        self._check_own(edited)
        return paste_back(self.photos, edited.images, self._touched(edited))

    def blend(self, edited: Edited, photo: Photo, faces: Mapping[int, Face]) -> Photo:
        """Blend the edits of faces that were cropped from one photo back into it (`editgan.data.photo`).

        Args:
            faces: by the index of the image that each face was cropped to
        Raises:
            UserError: the edit belongs to other images than those that are set.
        """
        self._check_own(edited)
        before, region = self._first[0] if self._first else self._start()[0], self._touched(edited)
        for index, face in faces.items():
            photo = blend(photo, face, before[index], edited.images[index], region[index])
        return photo

    def go_on(self, edited: Edited) -> None:
        """Start the next edit from the result of this one; the photos stay, and `paste` and `blend` add up all edits.

        Raises:
            UserError: the edit belongs to other images than those that are set.
        """
        self._check_own(edited)
        self._first = (self._first[0] if self._first else self._start()[0]), self._touched(edited)
        self._w_plus, self._before = edited.w_plus, (edited.images, edited.masks)

    def outcomes(self, edited: Edited, masks: Tensor | None = None) -> list[Outcome]:
        """What the edit made of each image: the change inside and outside its region, and how far it took.

        Args:
            masks: the edited masks that were given to `edit`  # [H, W] or [N, H, W]
        Raises:
            UserError: the edit belongs to other images than those that are set.
        """
        self._check_own(edited)
        return outcomes(edited, self._start(), masks)

    def representation(self) -> list[Representation]:
        """Whether the model can represent the photos that were set, compared with its own validation pictures.

        Raises:
            UserError: latents were set, or the pretrained networks are missing.
        """
        if self.photos is None or self.outputs is None or self.assets is None:
            raise UserError("there is no photo to compare with: latents were set, not images")
        images = self._first[0] if self._first else self._start()[0]
        folders = self.outputs, self.assets
        return represented(self.photos, images, self.copy().render, *folders, self.protocol, self.shared)

    def vector_of(self, name: str, edited: Edited, *, index: int = 0, source: str = "") -> EditingVector:
        """The latent offset of image `index` as an editing vector for other images; also added to `vectors`."""
        delta = (edited.w_plus[index] - edited.start[index]).cpu()  # [num_ws, w_dim]
        parts, generator = edited.parts[index], self.origin.sha256 if self.origin is not None else ""
        self.vectors[name] = EditingVector(
            name=name, region_classes=parts, source=source, delta_w_plus=delta, generator=generator
        )
        return self.vectors[name]

    def save_vector(self, path: str | Path, edited: Edited, *, index: int = 0, source: str = "") -> Path:
        """Write the `vector_of` the edit to NAME.safetensors, or NAME-2.safetensors, ... if there is one.

        The vector takes the file's name.
        """
        name = Path(path).name.removesuffix(".safetensors")
        free = unused(Path(path).with_name(f"{name}.safetensors"))
        return save_vector(free, self.vector_of(free.stem, edited, index=index, source=source))

    def render(self, w_plus: Tensor) -> Tensor:
        return synthesise(self.G, w_plus)  # uint8 [N, 3, H, W]

    def _identity(self, weight: float) -> nn.Module | None:
        """The network of L_ID, which also guides training; None if the weight is 0."""
        if weight > 0 and self._identity_net is None:
            if self.assets is None:
                raise UserError("the identity loss needs its pretrained network; create the editor with Editor.load")
            self._identity_net = load_network("dlib_resnet", self.assets).to(self.device)
        return self._identity_net if weight > 0 else None

    def _check_own(self, edited: Edited) -> None:
        if edited.start is not self.w_plus:
            raise UserError("this edit belongs to images set earlier; use it before setting new images")

    def _touched(self, edited: Edited) -> Tensor:
        """The region of this edit and of those before it (`go_on`).  # bool [N, H, W]"""
        return edited.region if self._first is None else edited.region | self._first[1]

    def _edited(self, w_plus: Tensor, parts: tuple[tuple[str, ...], ...], asked: Tensor | None = None) -> Edited:
        images, masks = render(self.G, self.S, w_plus)
        region = around(self._start()[1], masks, parts, self.S)
        region = region if asked is None else region | asked
        return Edited(images=images, masks=masks, start=self.w_plus, w_plus=w_plus, region=region, parts=parts)

    def _start(self) -> tuple[Tensor, Tensor]:
        if self._before is None:
            self._before = render(self.G, self.S, self.w_plus)
        return self._before
