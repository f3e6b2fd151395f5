"""The editor: load the trained networks once, then embed, segment and edit images (EditGAN, section 3)."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from editgan.assets.load import load_network
from editgan.assets.networks.winograd import use_winograd
from editgan.data.paste import dilate, paste_back
from editgan.data.photo import Face, Photo, blend
from editgan.editing.masks import dilation_radius, edit_region, painted_parts
from editgan.editing.optimize import edit_in_batches
from editgan.editing.params import ObjectiveWeights
from editgan.editing.refine import refine_edit
from editgan.editing.vectors import EditingVector, apply_vector, combined, save_vector
from editgan.editor.loading import find, require_segmentation
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

BATCH = 16  # images at a time; affects speed and memory only
LARGEST_LATENT = 1e4  # limit of |w_plus|; typical entries are of order 1
Progress = Callable[[int, int], None]  # (done, total)


@dataclass(frozen=True)
class Edited:
    """The result of an edit of the images that were set."""

    images: Tensor  # uint8 [N, 3, H, W]
    masks: Tensor  # predicted part labels of the edited images  # uint8 [N, H, W]
    start: Tensor  # latents before the edit  # [N, num_ws, w_dim]
    w_plus: Tensor  # latents after the edit  # [N, num_ws, w_dim]
    region: Tensor  # requested region and edited parts before and after the edit, dilated  # bool [N, H, W]
    parts: tuple[tuple[str, ...], ...]  # Q_edit: the edited parts of each image


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
    assets: Path | None = None  # folder of the identity network, which is loaded when a loss first needs it
    settings: Settings = Settings()
    photos: Tensor | None = field(default=None, init=False)
    _w_plus: Tensor | None = field(default=None, init=False)
    _before: tuple[Tensor, Tensor] | None = field(default=None, init=False)  # images and masks of `w_plus`, made once
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
            UserError: a model is missing or damaged, with the stage that writes it; or a wrong value in params.yaml.
        """
        found, chosen = find(outputs, generator), device_named(device)
        if chosen.type == "cpu":
            keep_freed_memory()
        lpips_vgg = use_winograd(load_network("lpips_vgg", found.assets)).to(chosen)
        return cls(lpips_vgg=lpips_vgg, device=chosen, assets=found.assets, **found.load(chosen, vectors))

    @property
    def class_names(self) -> list[str]:
        return self.S.class_names

    @property
    def w_plus(self) -> Tensor:
        """Latents of the images that were set.  # [N, num_ws, w_dim]

        Raises:
            UserError: no image was set.
        """
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
        _check_counts(steps=steps, identity_weight=identity_weight, pull=pull)
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
        self._w_plus, self.photos, self._before = w_plus.detach().to(self.device, torch.float32), None, None

    def tune(self, *, steps: int = 100, lr: float = 0.001, progress: Progress | None = None) -> Tensor:
        """Fine-tune a copy of the generator on the photos that were set (pivotal tuning, Roich et al. 2021).

        All later edits of these photos use the copy. The next `set_image` or `set_latents` restores the trained
        generator. Works best with one photo at a time, because several photos share the copy.

        Returns:
            the new reconstructions  # uint8 [N, 3, H, W]
        Raises:
            UserError: latents were set, so there is no photo.
        """
        if self.photos is None:
            raise UserError("the generator can only be tuned to an image, but latents were set; set the image")
        images, trained = to_float(self.photos).to(self.device), self._trained or self.G
        self.G = tune_generator(self.G, self.lpips_vgg, self.w_plus, images, steps=steps, lr=lr, progress=progress)
        self._trained, self._w_plus = trained, self.w_plus.clone()  # a new tensor invalidates edits made before
        self._before = None
        return self.render(self.w_plus)

    def sample(self, seeds: list[int], truncation_psi: float = TRUNCATION_PSI) -> Tensor:
        """Sample one image per seed and set them, uint8 [N, 3, H, W]; `truncation_psi` < 1 truncates towards w_avg."""
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
    ) -> Edited:
        """Optimise the latents until the segmentation matches edited masks (EditGAN 3.2).

        Args:
            masks: edited masks, labels  # [H, W] or [N, H, W]
            roi: bool region where the masks apply, same shape; None: changed pixels and their `painted_parts`
            steps, lr, weights: of the optimisation; None: the run's editing.edit
        Raises:
            UserError: masks of another size, with unknown labels, or without any change.
        """
        steps, lr, weights = self.settings.optimisation("edit", steps, lr, weights)
        _check_counts(steps=steps)
        before, after = self.segment(), torch.as_tensor(masks).cpu()
        after = after[None] if after.ndim == 2 else after
        if after.shape != before.shape:
            raise UserError(f"the edited masks have shape {list(after.shape)}, expected {list(before.shape)}")
        if int(after.max()) >= len(self.class_names) or int(after.min()) < 0:
            wrong = int(after.max()) if int(after.min()) >= 0 else int(after.min())
            raise UserError(f"the edited masks have the label {wrong}; there are {len(self.class_names)}, from 0 on")
        after = after.to(torch.uint8)
        changed = before != after
        if roi is None:
            if not changed.any():
                raise UserError("the edited masks equal the predicted masks; paint a change, or give a region")
            parts = painted_parts(before, after, changed, self.class_names)
            region = self._around(before, after, parts) | dilate(changed, dilation_radius(after.shape[-1]))
            region &= changed.flatten(1).any(1)[:, None, None]  # empty region for an unchanged mask
        else:
            region = (roi[None] if roi.ndim == 2 else roi).bool().cpu()
            if region.shape != before.shape:
                raise UserError(f"the region has shape {list(region.shape)}, expected {list(before.shape)}")
            if not region.any():
                raise UserError("the region is empty; mark the pixels where the edited masks apply")
            parts = painted_parts(before, after, region, self.class_names)
        w_plus = edit_in_batches(
            self.G,
            self.S,
            self.lpips_vgg,
            self.w_plus,
            after.to(self.device),
            region.to(self.device),
            batch=BATCH,
            progress=progress,
            weights=weights,
            steps=steps,
            lr=lr,
            identity=self._identity(weights.identity),
        )
        return self._edited(w_plus, parts, region)

    def apply(
        self,
        edits: Mapping[str, float | None],
        *,
        refine: int | None = 0,
        lr: float | None = None,
        weights: ObjectiveWeights | None = None,
        progress: Progress | None = None,
    ) -> Edited:
        """Add editing vectors, each at its strength, then refine the sum if `refine` is not 0 (EditGAN 3.3).

        Args:
            edits: strengths by name; 1 is the mean learned edit, negative strengths reverse it, None is the vector's
                default
            refine, lr, weights: steps, rate and weights of the refinement; None: the run's editing.refine
        Raises:
            UserError: an unknown vector, no vector, or an invalid strength.
        """
        if not edits:
            raise UserError(f"give at least one edit; available: {', '.join(self.vectors) or 'none'}")
        for name, given in edits.items():
            if name not in self.vectors:
                raise UserError(f"unknown edit {name!r}; available: {', '.join(self.vectors) or 'none'}")
            if given is not None and not math.isfinite(given):
                raise UserError(f"the strength of {name} is {given}; give a finite number")
        vectors = [self.vectors[name] for name in edits]
        strengths = [self.vectors[name].scale if given is None else given for name, given in edits.items()]
        refine, lr, weights = self.settings.optimisation("refine", refine, lr, weights)
        _check_counts(refine=refine)
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
            networks = self.G, self.S, self.lpips_vgg
            w_edited = refine_edit(*networks, start, w_edited, class_ids, steps=refine, lr=lr, **options)
        return self._edited(w_edited, (vector.region_classes,) * len(w_edited))

    def paste(self, edited: Edited) -> Tensor:
        """Paste the edited regions into the photos that were set.  # uint8 [N, 3, H, W]

        Raises:
            UserError: latents were set, so there is no photo, or the edit belongs to other photos.
        """
        if self.photos is None:
            raise UserError("there is no photo to paste into: latents were set, not images")
        if edited.start is not self.w_plus:
            raise UserError("this edit belongs to images set earlier; paste it before setting new images")
        return paste_back(self.photos, edited.images, edited.region)

    def blend(self, edited: Edited, photo: Photo, faces: Mapping[int, Face]) -> Photo:
        """Blend the edits of faces that were cropped from one photo back into it (`editgan.data.photo`).

        Args:
            faces: by the index of the image that each face was cropped to
        Raises:
            UserError: the edit belongs to other images than those that are set.
        """
        if edited.start is not self.w_plus:
            raise UserError("this edit belongs to images set earlier; blend it before setting new images")
        for index, face in faces.items():
            photo = blend(photo, face, self._start()[0][index], edited.images[index], edited.region[index])
        return photo

    def vector_of(self, name: str, edited: Edited, *, index: int = 0, source: str = "") -> EditingVector:
        """The latent offset of image `index` as an editing vector for other images; also added to `vectors`."""
        delta = (edited.w_plus[index] - edited.start[index]).cpu()  # [num_ws, w_dim]
        parts = edited.parts[index]
        self.vectors[name] = EditingVector(name=name, region_classes=parts, source=source, delta_w_plus=delta)
        return self.vectors[name]

    def save_vector(self, path: str | Path, edited: Edited, *, index: int = 0, source: str = "") -> Path:
        """Write the `vector_of` the edit to NAME.safetensors; the vector takes the file's name."""
        path = Path(path)
        name = path.name.removesuffix(".safetensors")
        return save_vector(
            path.with_name(f"{name}.safetensors"), self.vector_of(name, edited, index=index, source=source)
        )

    def render(self, w_plus: Tensor) -> Tensor:
        """G(w_plus).  # uint8 [N, 3, H, W]"""
        return synthesise(self.G, w_plus)

    def _identity(self, weight: float) -> nn.Module | None:
        """The network of L_ID, which also guides training; None if the weight is 0."""
        if weight > 0 and self._identity_net is None:
            if self.assets is None:
                raise UserError("the identity loss needs its pretrained network; create the editor with Editor.load")
            self._identity_net = load_network("dlib_resnet", self.assets).to(self.device)
        return self._identity_net if weight > 0 else None

    def _around(self, before: Tensor, after: Tensor, parts: tuple[tuple[str, ...], ...]) -> Tensor:
        """`edit_region` of each image for its parts.  # bool [N, H, W]"""
        rows = zip(before.split(1), after.split(1), map(self.S.class_ids, parts), strict=True)
        return torch.cat([edit_region(*row) for row in rows])

    def _edited(self, w_plus: Tensor, parts: tuple[tuple[str, ...], ...], asked: Tensor | None = None) -> Edited:
        images, masks = render(self.G, self.S, w_plus)
        region = self._around(self._start()[1], masks, parts)
        region = region if asked is None else region | asked
        return Edited(images=images, masks=masks, start=self.w_plus, w_plus=w_plus, region=region, parts=parts)

    def _start(self) -> tuple[Tensor, Tensor]:
        if self._before is None:
            self._before = render(self.G, self.S, self.w_plus)
        return self._before


def _check_counts(**values: float) -> None:
    for name, value in values.items():
        if not 0 <= value < math.inf:
            raise UserError(f"{name} is {value}; give a finite number >= 0")
