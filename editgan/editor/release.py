"""Files of the releases of EditGAN and DatasetGAN: editing vectors, latents, classifiers, annotations.

Arrays are read without pickles. The encoder of EditGAN's release is another network and is not read.
"""

import colorsys
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from editgan.data.archive import Classes, encode_image, encode_mask, load_classes, save_classes
from editgan.decoding import decode_picture
from editgan.editing.vectors import EditingVector, save_vector
from editgan.editor.loading import CLASSES, ENSEMBLE, G_EMA
from editgan.errors import Unusable, UserError
from editgan.generator.foreign.files import weights_of
from editgan.generator.generator import Generator, load_generator
from editgan.segmentation.ensemble import SegmentationEnsemble, hidden_widths
from editgan.weights import save_tensors, write_bytes

POSES = "_npose"  # ending of files beside the latents of the release
LAYERS, NORMS = (0, 3, 6), (2, 5)  # of a pixel classifier: linear layers, batch norms
NORM_PARTS = ("weight", "bias", "running_mean", "running_var")
PICTURES = (".png", ".jpg", ".jpeg")
# Words in the names of parts of which a face has two; the released labels do not tell the sides.
SIDED = {"ear", "eye", "eyes", "eyelashes", "iris", "pupil", "sclera", "tear", "brow", "eyebrow"}


def read_array(path: Path) -> np.ndarray:
    """A .npy file of numbers. Raises UserError: missing, damaged, or with pickled objects, which are never read."""
    try:
        found = np.load(path, allow_pickle=False)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except Exception as error:  # a damaged header may raise anything
        reason = "it holds pickled objects" if "pickle" in str(error) else " ".join(str(error).split())[:120]
        raise UserError(f"{path}: not an array of numbers ({reason})") from None
    if not isinstance(found, np.ndarray) or found.dtype.kind not in "biuf":
        raise UserError(f"{path}: not an array of numbers, but of {getattr(found, 'dtype', type(found).__name__)}")
    return found


def arrays_in(path: Path) -> list[Path]:
    """The file itself, or the sorted .npy files of a folder. Raises UserError: there is none."""
    found = sorted(path.glob("*.npy")) if path.is_dir() else [path]
    if not found:
        raise UserError(f"{path}: has no .npy files")
    return found


def read_latent(path: Path, G: Generator) -> Tensor:
    """A latent or an editing vector, [num_ws, w_dim] or [1, num_ws, w_dim].  # float32 [num_ws, w_dim]

    Raises:
        UserError: another shape than this generator's, or values that are not finite.
    """
    array = read_array(path)
    rows = array[0] if array.ndim == 3 and len(array) == 1 else array
    if rows.shape != (G.num_ws, G.w_dim):
        wanted = f"this generator's is [{G.num_ws}, {G.w_dim}], perhaps with a leading 1"
        raise UserError(f"{path}: has the shape {list(array.shape)}; {wanted}")
    with np.errstate(over="ignore"):
        latent = torch.from_numpy(np.array(rows, np.float32))
    if not latent.isfinite().all():
        raise UserError(f"{path}: has values that are NaN or infinite as 32-bit numbers")
    return latent


def generator_in(outputs: Path) -> Generator:
    """The generator of a folder of outputs. Raises UserError: it has none yet."""
    if not (outputs / G_EMA).is_file():
        raise UserError(f"{outputs / G_EMA}: missing; import the generator first: `editgan import generator`")
    return load_generator(outputs / G_EMA)


def import_vectors(path: Path, outputs: Path, parts: Sequence[str] = ()) -> list[Path]:
    """Editing vectors of EditGAN's release as ours, in OUTPUTS/editing/vectors.

    Args:
        path: a .npy file, or a folder of them
        parts: names of the parts that the vectors change; without them, they cannot be refined
    Raises:
        UserError: a vector of another generator, an unknown part, or a vector with this name exists.
    """
    G, made = generator_in(outputs), []
    known = load_classes(outputs / CLASSES).names if (outputs / CLASSES).is_file() else None
    unknown = [part for part in parts if known is not None and part not in known]
    if unknown:
        raise UserError(f"--parts {unknown[0]}: the parts of this model are {', '.join(known or [])}")
    for file in arrays_in(path):
        delta = read_latent(file, G)
        name = re.sub(r"\W+", "_", file.stem)
        vector = EditingVector(name=name, region_classes=tuple(parts), source=file.name, delta_w_plus=delta)
        made.append((outputs / "editing" / "vectors" / f"{name}.safetensors", vector))
    _check_new([target for target, _ in made])
    return [save_vector(target, vector) for target, vector in made]


def import_latents(path: Path, outputs: Path, into: Path) -> list[Path]:
    """Latents of EditGAN's release as files that every command takes, INTO/NAME.safetensors.

    The poses beside them in the release, NAME_npose.npy, are pickles; in a folder they are left out.
    """
    G, made = generator_in(outputs), []
    for file in arrays_in(path):
        if path.is_dir() and file.stem.endswith(POSES):
            continue
        made.append((into / f"{file.stem}.safetensors", read_latent(file, G)[None]))
    _check_new([target for target, _ in made])
    return [save_tensors(target, {"w_plus": w_plus}) for target, w_plus in made]


def import_classifiers(folder: Path, outputs: Path, classes: Path | None = None) -> Path:
    """The pixel classifiers of EditGAN's release, all of them, as OUTPUTS/segmentation/S.safetensors.

    Args:
        folder: with one .pth a classifier
        classes: a classes.json with the names of the labels; None: part_01, part_02, ...
    Raises:
        UserError: no classifiers, classifiers of different sizes, or of another generator; or S exists.
    """
    G = generator_in(outputs)
    files = sorted(folder.glob("*.pth"), key=lambda file: [int(n) for n in re.findall(r"\d+", file.stem)][::-1])
    if not files:
        raise UserError(f"{folder}: has no classifiers (.pth files)")
    states = [_classifier(file) for file in files]
    shapes = [{name: list(tensor.shape) for name, tensor in state.items()} for state in states]
    for file, found in zip(files, shapes, strict=True):
        if found != shapes[0]:
            raise UserError(f"{file}: has other sizes than {files[0]}; give the classifiers of one model")
    count, features = len(states[0]["6.weight"]), states[0]["0.weight"].shape[1]
    widths = tuple(len(states[0][f"{layer}.weight"]) for layer in LAYERS[:2])
    if features != sum(G.feature_channels) or widths != hidden_widths(count):
        wanted = (
            f"this generator has {sum(G.feature_channels)}, and classifiers of {count} parts {hidden_widths(count)}"
        )
        raise UserError(f"{files[0]}: reads {features} features with the widths {widths}; {wanted}")
    named = load_classes(classes) if classes is not None else numbered_classes(count)
    if len(named.names) != count:
        raise UserError(f"{classes}: has {len(named.names)} classes, but the classifiers have {count}")
    target = outputs / ENSEMBLE
    _check_new([target, outputs / CLASSES])
    config = dict(feature_channels=G.feature_channels, num_classes=count, members=len(states), class_names=named.names)
    tensors: dict[str, Tensor] = {}
    for index, layer in enumerate(LAYERS, 1):
        tensors[f"weight{index}"] = torch.stack([state[f"{layer}.weight"] for state in states])
        tensors[f"bias{index}"] = torch.stack([state[f"{layer}.bias"] for state in states])
    for index, layer in enumerate(NORMS, 1):
        for part in NORM_PARTS:
            tensors[f"norm{index}.{part}"] = torch.cat([state[f"{layer}.{part}"] for state in states])
        tensors[f"norm{index}.num_batches_tracked"] = torch.tensor(0)
    S = SegmentationEnsemble(**config)
    S.load_state_dict(tensors)
    target.parent.mkdir(parents=True, exist_ok=True)
    (outputs / CLASSES).parent.mkdir(parents=True, exist_ok=True)
    save_classes(outputs / CLASSES, named)
    return save_tensors(target, S.state_dict(), {"class": type(S).__name__, "config": S.config})


def _classifier(file: Path) -> dict[str, Tensor]:
    """Tensors of one classifier by the number of the layer. Raises UserError: another kind of file, or damaged."""
    content = weights_of(file)
    state = content.get("model_state_dict", content) if isinstance(content, dict) else {}
    state = state if isinstance(state, dict) else {}
    found = {
        match[1]: tensor.float()
        for name, tensor in state.items()
        if isinstance(tensor, Tensor) and (match := re.fullmatch(r"(?:module\.)?layers\.(\d\.\w+)", str(name)))
    }
    needed = {f"{layer}.{part}" for layer in LAYERS for part in ("weight", "bias")}
    needed |= {f"{layer}.{part}" for layer in NORMS for part in NORM_PARTS}
    if not needed <= found.keys():
        raise UserError(f"{file}: not a pixel classifier of DatasetGAN or EditGAN (lacks {min(needed - found.keys())})")
    widths = [found[f"{layer}.bias"].numel() for layer in LAYERS]
    inputs = [found["0.weight"].shape[-1] if found["0.weight"].ndim else 0, *widths]
    expected = {name: (widths[int(name[0]) // 3],) for name in needed}
    expected |= {f"{layer}.weight": (widths[k], inputs[k]) for k, layer in enumerate(LAYERS)}
    for name in sorted(needed):
        shape = tuple(found[name].shape)
        if shape != expected[name]:
            raise UserError(f"{file}: damaged ({name} has the shape {list(shape)} instead of {list(expected[name])})")
        if not found[name].isfinite().all() or (name.endswith("running_var") and (found[name] < 0).any()):
            raise UserError(f"{file}: damaged ({name} has values that are NaN, infinite or negative)")
    return {name: found[name] for name in needed}


def import_labels(folder: Path, into: Path, classes: Path | None = None, *, sides: bool = False) -> tuple[int, Classes]:
    """Annotated pictures of DatasetGAN as labelled pictures: INTO/images, INTO/masks, INTO/classes.json.

    Args:
        folder: with image_0.png (or .jpg), image_mask0.npy, ...; masks are class numbers, [H, W] or [H, W, 1]
        classes: a classes.json with the names of the labels; None: part_01, part_02, ...
        sides: tell the left and the right of ears, eyes and brows apart, by the side of the nose. Left is the person's
            left, on the right of the picture
    Returns:
        number of pictures, and the classes
    Raises:
        UserError: no annotated pictures, damaged files, masks of another size than their picture, or unknown labels.
    """
    pairs = _annotated(folder)
    masks = {picture: _mask(mask) for picture, mask in pairs}
    count = max(int(mask.max()) for mask in masks.values()) + 1
    named = load_classes(classes) if classes is not None else numbered_classes(max(count, 2))
    if count > len(named.names):
        raise UserError(f"{folder}: a mask has the label {count - 1}, but {classes} has {len(named.names)} classes")
    if sides:
        masks, named = told_apart(masks, named)
    made: list[tuple[Path, bytes]] = []
    for picture, mask in masks.items():
        try:
            pixels = decode_picture(picture).seen()
        except Unusable as reason:
            raise UserError(f"{picture}: {reason}") from None
        if pixels.shape[:2] != mask.shape:
            sizes = f"{pixels.shape[1]}x{pixels.shape[0]}, its mask {mask.shape[1]}x{mask.shape[0]}"
            raise UserError(f"{picture}: is {sizes}; both must have the same size")
        made.append((into / "images" / f"{picture.stem}.png", encode_image(pixels)))
        made.append((into / "masks" / f"{picture.stem}.png", encode_mask(mask, named.palette)))
    _check_new([into / "classes.json", *(target for target, _ in made)])
    for target, content in made:
        write_bytes(target, content)
    save_classes(into / "classes.json", named)
    return len(masks), named


def _annotated(folder: Path) -> list[tuple[Path, Path]]:
    """Pictures with their masks, by number."""
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder")
    pairs: dict[int, tuple[Path, Path]] = {}
    masks = {int(found[1]) for file in folder.iterdir() if (found := re.fullmatch(r"image_mask(\d+)\.npy", file.name))}
    for picture in sorted(folder.iterdir()):
        number = re.fullmatch(r"image_(\d+)", picture.stem)
        if picture.suffix.lower() not in PICTURES or number is None:
            continue
        mask = folder / f"image_mask{number[1]}.npy"
        if not mask.is_file():
            raise UserError(f"{picture}: has no mask {mask.name} beside it")
        if int(number[1]) in pairs:
            raise UserError(f"{picture}: has the number of {pairs[int(number[1])][0].name}; remove one of them")
        pairs[int(number[1])] = (picture, mask)
    if pairs and (alone := masks - pairs.keys()):
        raise UserError(f"{folder}: image_mask{min(alone)}.npy has no picture image_{min(alone)}.png beside it")
    if not pairs:
        raise UserError(f"{folder}: has no pictures image_0.png, image_1.png, ... with masks image_mask0.npy, ...")
    return [pairs[number] for number in sorted(pairs)]


def _mask(path: Path) -> np.ndarray:
    mask = np.squeeze(read_array(path))
    if mask.ndim != 2 or not mask.size or not ((mask >= 0) & (mask < 255) & (mask == np.round(mask))).all():
        raise UserError(f"{path}: not a mask of class numbers from 0 to 254 (shape {list(mask.shape)})")
    return mask.astype(np.uint8)


def told_apart(masks: dict[Path, np.ndarray], classes: Classes) -> tuple[dict[Path, np.ndarray], Classes]:
    """Masks in which each ear, eye and brow (and each of their parts) is either the left or the right one.

    Every pixel left of the middle of the nose in the picture belongs to the person's right.

    Raises:
        UserError: the classes have no nose, or a mask shows none.
    """
    noses = [label for label, name in enumerate(classes.names) if "nose" in name]
    words = [set(re.split(r"[\W_]+", name)) for name in classes.names]
    sided = [label for label, found in enumerate(words) if found & SIDED and not found & {"left", "right"}]
    if not noses:
        raise UserError("to tell left and right apart, a class must be named nose; give --classes")
    names = [f"left_{name}" if label in sided else name for label, name in enumerate(classes.names)]
    names += [f"right_{classes.names[label]}" for label in sided]
    palette = np.concatenate([classes.palette, 255 - classes.palette[sided]])
    changed = {}
    for path, mask in masks.items():
        columns = np.nonzero(np.isin(mask, noses))[1]
        if not len(columns):
            raise UserError(f"{path}: its mask shows no nose, so left and right cannot be told apart")
        right = np.arange(mask.shape[1])[None] < columns.mean()
        result = mask.copy()
        for new, label in enumerate(sided, len(classes.names)):
            result[(mask == label) & right] = new
        changed[path] = result
    return changed, Classes(names=names, palette=palette)


def numbered_classes(count: int) -> Classes:
    """Classes without names, in colours that differ."""
    hues = [colorsys.hsv_to_rgb(0.618 * index % 1, 0.55 + 0.15 * (index % 4), 0.95) for index in range(1, count)]
    palette = np.array([(0, 0, 0), *(tuple(round(255 * part) for part in hue) for hue in hues)], np.uint8)
    return Classes(names=["background", *(f"part_{index:02d}" for index in range(1, count))], palette=palette)


def _check_new(paths: list[Path]) -> None:
    """Raise UserError for a file that exists, or that would be written twice."""
    for path in paths:
        if path.exists() or paths.count(path) > 1:
            raise UserError(f"{path}: exists already; remove it first, or give another folder")
