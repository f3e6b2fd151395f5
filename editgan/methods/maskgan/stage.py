"""Stage `maskgan`: train MaskGAN on images and their masks, measure the generated faces."""

from collections.abc import Callable
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor, nn

from editgan.data.archive import (
    ArchiveError,
    Classes,
    holds_masks,
    load_attributes,
    load_classes,
    load_images,
    load_masks,
)
from editgan.data.protocol import MOUTH, load_protocol
from editgan.data.training import training_folder
from editgan.editing.edits import choose_donor
from editgan.editing.masks import is_part
from editgan.encoder.losses import load_lpips
from editgan.errors import UserError
from editgan.images import colourize, labelled_grid, save_mask, save_png, to_float
from editgan.labels import IGNORE
from editgan.methods.distillation.pix2pixhd import MultiscaleDiscriminator, initialise
from editgan.methods.maskgan.losses import (
    AlphaBlender,
    MaskVAE,
    Parser,
    initialise_maskgan,
    predict,
    reconstruct_masks,
)
from editgan.methods.maskgan.networks import MaskGAN, edit, sizes_of, smile_masks
from editgan.methods.maskgan.train import MaskedHeads, labels_training, mapping_training
from editgan.methods.smile import FRONTAL, at_rest
from editgan.methods.translation import l1, still_improving
from editgan.runtime.stage import StageContext
from editgan.segmentation.metrics import segmentation_scores
from editgan.training import (
    CURVE_FILE,
    DIGITS,
    count_parameters,
    generator_for,
    in_batches,
    seed_everything,
    train,
    write_curve,
)
from editgan.weights import load_module, save_module, save_tensors, write_bytes, write_json

BATCH = 50  # images at a time
PICTURE_ROWS = 8
DONOR_SMILE = 0.8  # minimum smile value of the candidate donors
VAE = {"weights": {"ce": 1.0, "kl": 0.00001}, "batch": 32, "lr": 0.001}  # training of the autoencoder of masks
PARSER = {"weights": {"ce": 1.0}, "batch": 16, "lr": 0.002}  # training of the parser


def run(context: StageContext) -> None:
    """Write generator.safetensors, parser.safetensors, donor.png, curves, pictures and metrics."""
    params, data = context.params.maskgan, context.input("data")
    classes = load_classes(data / "classes.json")
    if params.learn_from == "none":
        leave_out(context, classes)
        write_json(context.out / "metrics.json", {"train_masks": 0})
        print("maskgan is skipped: maskgan.learn_from is none")
        return
    folder = training_folder(context) if params.learn_from == "train" else data
    learn = load_heads(context, folder / f"{params.learn_from}.zip", labels_of(context))
    if not load_protocol(data).faces:
        parser_alone(context, learn, classes)
        return
    val = load_heads(context, data / "val.zip", data / "val.zip", params.val_images)
    donor, donor_mask = choose_mouth(context, classes)
    neutral_heads(context)  # before the training

    lpips_vgg = load_lpips(context.input("assets"), context.device)
    vae = train_vae(context, learn, len(classes.names))
    parser = train_parser(context, learn, len(classes.names))
    net, losses = train_mapping(context, vae, lpips_vgg, learn, val, len(classes.names))

    save_mask(context.out / "donor.png", donor_mask, classes.palette)
    metrics = measure(context, net, parser, vae, lpips_vgg, val, classes, donor_mask)
    metrics |= {"donor": donor, "train_masks": len(learn), "still_improving": still_improving(losses)}
    metrics |= {"parameters": count_parameters(net), "parameters_parser": count_parameters(parser)}
    write_json(context.out / "metrics.json", metrics)
    context.run.log_metrics({name: float(value) for name, value in metrics.items()})


def leave_out(context: StageContext, classes: Classes) -> None:
    """Write empty outputs when the method is skipped; tables then have no MaskGAN row."""
    for name in ("generator", "parser"):
        save_tensors(context.out / f"{name}.safetensors", {}, {"kind": "left out"})
    side = context.params.resolution
    save_mask(context.out / "donor.png", torch.zeros(side, side, dtype=torch.uint8), classes.palette)
    write_bytes(context.out / "stats.jsonl", b"")
    write_json(context.out / "curves" / "val.json", [])
    save_png(context.out / "reconstructions.png", Image.new("RGB", (side, side)))


def parser_alone(context: StageContext, learn: MaskedHeads, classes: Classes) -> None:
    """Train the parser, which judges edits of classes without faces. MaskGAN, which swaps mouths, is left out."""
    leave_out(context, classes)
    parser = train_parser(context, learn, len(classes.names))
    metrics = {"train_masks": 0, "parser_masks": len(learn), "parameters_parser": count_parameters(parser)}
    path, params = context.input("data") / "val.zip", context.params.maskgan
    if holds_masks(path):
        val = load_heads(context, path, path, params.val_images)
        scores = segmentation_scores(predict(parser, val.photos, batch=BATCH), val.masks, classes.names)
        metrics[f"segmentation_accuracy_val{len(val)}_photos"] = round(scores.pixel_accuracy, DIGITS)
        metrics[f"segmentation_miou_val{len(val)}_photos"] = round(scores.miou, DIGITS)
    write_json(context.out / "metrics.json", metrics)
    context.run.log_metrics({name: float(value) for name, value in metrics.items()})
    print("maskgan: only its parser is trained; MaskGAN is of faces")


def labels_of(context: StageContext) -> Path:
    """The archive with masks and attributes of the training heads; split train has a separate one."""
    if context.params.maskgan.learn_from == "train":
        return training_folder(context) / "train_labels.zip"
    return context.input("data") / "pool.zip"


def load_heads(context: StageContext, photos: Path, masks: Path, number: int | None = None) -> MaskedHeads:
    """Load the first `number` photos (None: all) of one archive and their masks from another."""
    indices = None if number is None else range(number)
    try:
        labels = load_masks(masks, indices)
    except ArchiveError as error:
        raise UserError(
            f"{error}; MaskGAN needs masks of all of them; set maskgan.learn_from: pool to learn from the pool's masks,"
            " or none to skip MaskGAN"
        ) from None
    if (labels == IGNORE).any():
        raise UserError(
            f"{masks}: has pixels without a label (255), and MaskGAN needs one; set maskgan.learn_from: none"
        )
    heads = MaskedHeads(torch.as_tensor(load_images(photos, indices)), torch.as_tensor(labels))
    resolution = context.params.resolution
    if heads.photos.shape[2:] != (resolution, resolution):
        height, width = heads.photos.shape[2:]
        raise UserError(f"resolution {resolution}: {photos} has {width}x{height} images; run stage data again")
    return heads


def choose_mouth(context: StageContext, classes: Classes) -> tuple[int, Tensor]:
    """The donor's index and mask: of random smiling training heads the most frontal one with a complete mouth."""
    params, path = context.params.maskgan, labels_of(context)
    attributes = load_attributes(path)
    smiling = [index for index, head in enumerate(attributes) if head["smile"] >= DONOR_SMILE]
    if len(smiling) < params.donors:
        raise UserError(
            f"maskgan.donors {params.donors}: only {len(smiling)} heads of {params.learn_from} have a smile of"
            f" {DONOR_SMILE} or more; lower donors"
        )
    order = torch.randperm(len(smiling), generator=generator_for(context.params.seed, "maskgan", "donors"))
    drawn = [smiling[index] for index in order[: params.donors].tolist()]
    masks, parts = load_masks(path, drawn), [classes.index(name) for name in MOUTH]
    chosen = choose_donor(f"smile >= {DONOR_SMILE}", parts, masks, [attributes[index] for index in drawn], FRONTAL)
    return drawn[chosen], torch.as_tensor(masks[chosen])


def neutral_heads(context: StageContext) -> list[int]:
    """The neutral ones among the validation heads. Raises UserError: there is none."""
    count = context.params.maskgan.val_images
    attributes = load_attributes(context.input("data") / "val.zip")[:count]
    rest = [index for index, head in enumerate(attributes) if at_rest(head)]
    if not rest:
        raise UserError(f"maskgan.val_images {count}: none of these heads is neutral; raise it")
    return rest


def train_vae(context: StageContext, learn: MaskedHeads, num_classes: int) -> MaskVAE:
    """Train the mask autoencoder, which is needed for training only."""
    seed, sizes = context.params.seed, sizes_of(context.params.resolution)["vae"]
    seed_everything(seed, "maskgan", "vae")
    vae = MaskVAE(num_classes=num_classes, resolution=context.params.resolution, **sizes)

    def terms_at(indices: Tensor, cur_nimg: int) -> dict[str, Tensor]:
        generator = generator_for(seed, "maskgan", "vae", cur_nimg)
        noise = torch.randn(len(indices), sizes["latent"], generator=generator).to(context.device)
        return vae.terms(learn.masks[indices].to(context.device), noise)

    train_on_labels(context, "vae", vae, terms_at, kimg=context.params.maskgan.vae_kimg, count=len(learn), **VAE)
    return vae.eval().requires_grad_(False)


def train_parser(context: StageContext, learn: MaskedHeads, num_classes: int) -> Parser:
    """Train the parser (images -> masks); returns it as loaded from its file."""
    seed_everything(context.params.seed, "maskgan", "parser")
    parser = Parser(num_classes=num_classes, **sizes_of(context.params.resolution)["parser"])

    def terms_at(indices: Tensor, cur_nimg: int) -> dict[str, Tensor]:
        photos = to_float(learn.photos[indices]).to(context.device)
        return parser.terms(photos, learn.masks[indices].to(context.device))

    kimg = context.params.maskgan.parser_kimg
    train_on_labels(context, "parser", parser, terms_at, kimg=kimg, count=len(learn), **PARSER)
    path = save_module(context.out / "parser.safetensors", parser, parser.config)
    return load_module(path, Parser).to(context.device)


def train_on_labels(
    context: StageContext,
    phase: str,
    net: nn.Module,
    terms_at: Callable[[Tensor, int], dict[str, Tensor]],
    *,
    weights: dict[str, float],
    **options: float,
) -> None:
    """Train the autoencoder or the parser; writes a curve of the weighted terms and the accuracy."""
    net.to(context.device).train()
    training = labels_training(phase, net, terms_at, weights=weights, seed=context.params.seed, **options)
    rows = train(training, context.run, context.work / phase, prefix=f"{phase}/")
    write_curve(context.out / "curves" / f"{phase}.json", rows, (*weights, "accuracy"))


def train_mapping(
    context: StageContext, vae: MaskVAE, lpips_vgg: nn.Module, learn: MaskedHeads, val: MaskedHeads, num_classes: int
) -> tuple[MaskGAN, list[float]]:
    """Train the mapping in two stages; returns the network as loaded from its file, and the validation LPIPS curve."""
    params, seed, sizes = context.params.maskgan, context.params.seed, sizes_of(context.params.resolution)
    net = MaskGAN(num_classes=num_classes, width=params.width, styled_ups=params.styled_ups, **sizes["net"])
    initialise_maskgan(net, generator_for(seed, "maskgan", "net"))
    D = MultiscaleDiscriminator(in_channels=num_classes + 3, **sizes["D"])  # the mask and the image
    initialise(D, generator_for(seed, "maskgan", "D"))
    blender = AlphaBlender(**sizes["blender"])
    initialise(blender, generator_for(seed, "maskgan", "blender"))
    work = context.work / "mapping"

    def on_snapshot(cur_nimg: int) -> dict[str, float]:
        drawn = edit(net, val.photos, val.masks, val.masks, batch=BATCH)
        name = f"reconstructions{round(cur_nimg / 1000):06d}"
        columns = {"photo": val.photos[:PICTURE_ROWS], "drawn": drawn[:PICTURE_ROWS]}
        context.run.log_image(save_png(context.work / f"{name}.png", labelled_grid(columns, scale=2)), name)
        return {"val_l1": l1(drawn, val.photos), "val_lpips": lpips(lpips_vgg, drawn, val.photos, context.device)}

    options = dict(seed=seed, device=context.device)
    training = mapping_training(net, D, blender, vae, lpips_vgg, learn, params, **options)
    rows = train(training, context.run, work, prefix="mapping/", on_snapshot=on_snapshot)
    path = save_module(context.out / "generator.safetensors", net, net.config)
    write_bytes(context.out / CURVE_FILE, (work / CURVE_FILE).read_bytes())
    curves, losses = context.out / "curves", ("gan", "feature_matching", "vgg", "l1")
    write_curve(curves / "train.json", rows, (*losses, "D"))
    write_curve(curves / "ebst.json", rows, [f"blend_{name}" for name in losses])
    write_curve(curves / "val.json", rows, ("val_l1", "val_lpips"))
    return load_module(path, MaskGAN).to(context.device), [row["val_lpips"] for row in rows if "val_lpips" in row]


def measure(
    context: StageContext,
    net: MaskGAN,
    parser: Parser,
    vae: MaskVAE,
    lpips_vgg: nn.Module,
    val: MaskedHeads,
    classes: Classes,
    donor_mask: Tensor,
) -> dict[str, float]:
    """Measure reconstructions of validation heads, smiles of the neutral ones, and how well both match their masks.

    LPIPS-VGG is a training loss, and the parser is trained on the same heads, so these metrics are for development
    only. `..._photos` is the parser's score on the photos, an upper bound for generated faces. `..._parsed` are
    reconstructions from predicted instead of true masks. The name of each metric contains the number of images.
    """
    count, names = len(val), classes.names
    drawn = edit(net, val.photos, val.masks, val.masks, batch=BATCH)
    parsed = predict(parser, val.photos, batch=BATCH)
    drawn_parsed = edit(net, val.photos, parsed, parsed, batch=BATCH)
    metrics: dict[str, float] = {}
    for name, images in (("", drawn), ("_parsed", drawn_parsed)):
        metrics[f"lpips_vgg_val{count}{name}"] = lpips(lpips_vgg, images, val.photos, context.device)
        metrics[f"l1_val{count}{name}"] = l1(images, val.photos)
    for name, masks in (("", predict(parser, drawn, batch=BATCH)), ("_photos", parsed)):
        scores = segmentation_scores(masks, val.masks, names)
        metrics[f"segmentation_accuracy_val{count}{name}"] = round(scores.pixel_accuracy, DIGITS)
        metrics[f"segmentation_miou_val{count}{name}"] = round(scores.miou, DIGITS)
    rebuilt = reconstruct_masks(vae, val.masks, batch=BATCH)
    metrics[f"vae_accuracy_val{count}"] = round(segmentation_scores(rebuilt, val.masks, names).pixel_accuracy, DIGITS)

    rest = neutral_heads(context)
    photos, masks = val.photos[rest], val.masks[rest]
    wanted = smile_masks(masks, donor_mask, names)
    smiles = edit(net, photos, masks, wanted, batch=BATCH)
    found, mouth = predict(parser, smiles, batch=BATCH), [classes.index(name) for name in MOUTH]
    both, either = (is_part(found, mouth) & is_part(wanted, mouth)), (is_part(found, mouth) | is_part(wanted, mouth))
    scores = segmentation_scores(found, wanted, names)
    metrics[f"segmentation_accuracy_val{len(rest)}_smiles"] = round(scores.pixel_accuracy, DIGITS)
    metrics[f"mouth_iou_val{len(rest)}_smiles"] = round(float(both.sum() / either.sum().clamp(min=1)), DIGITS)

    palette = torch.as_tensor(classes.palette)
    shown = {"photo": photos, "mask": colourize(masks, palette), "drawn": drawn[rest]}
    shown |= {"smile wanted": colourize(wanted, palette), "smile": smiles}
    picture = labelled_grid({name: images[:PICTURE_ROWS] for name, images in shown.items()}, scale=2)
    context.run.log_image(save_png(context.out / "reconstructions.png", picture), "reconstructions")
    return metrics


def lpips(lpips_vgg: nn.Module, first: Tensor, second: Tensor, device: torch.device) -> float:
    """Mean LPIPS-VGG of pairs of uint8 images [N, 3, H, W]."""
    values = in_batches(lpips_vgg, to_float(first), to_float(second), batch=BATCH, device=device)
    return round(float(values.double().mean()), DIGITS)
