"""Stage `segmentation`: train S on the labelled heads and evaluate it on exact masks of validation and test heads.

It learns from their embeddings by stage `encoder`: the same kind of features as in editing real images.
"""

import torch
from torch import Tensor

from editgan.data.archive import holds_masks, load_classes, load_images, load_masks
from editgan.encoder.encoder import load_latents
from editgan.errors import UserError
from editgan.generator.generator import load_generator
from editgan.images import colourize, heatmap, labelled_grid, save_png
from editgan.labels import IGNORE
from editgan.runtime.stage import StageContext
from editgan.segmentation.ensemble import load_segmentation, save_segmentation
from editgan.segmentation.metrics import SegmentationScores, segmentation_scores
from editgan.segmentation.predict import features_of, segment
from editgan.segmentation.train import drop_small_labels, train_ensemble
from editgan.segmentation.uncertainty import image_uncertainty, uncertainty_auroc
from editgan.weights import write_json

SHOWN = 8  # heads per picture
MIN_LABEL_PIXELS = 30  # smaller labels become background; used from 256 px on, as in the released code


def run(context: StageContext) -> None:
    """outputs/segmentation: S.safetensors, metrics.json, predictions.png, uncertainty.png."""
    params, data = context.params.segmentation, context.input("data")
    classes = load_classes(data / "classes.json")
    palette = torch.as_tensor(classes.palette)  # [K, 3]
    generator = load_generator(context.input("generator") / "G_ema.safetensors", context.device)
    latents = load_latents(context.input("encoder") / "latents.safetensors")
    few_shot, test = latents["few_shot"], latents["test"]
    if params.labelled_images > len(few_shot):
        raise UserError(
            f"segmentation.labelled_images is {params.labelled_images}, but only {len(few_shot)} labelled heads "
            "were embedded by the encoder stage"
        )

    few_shot = few_shot[: params.labelled_images]
    learned = torch.as_tensor(load_masks(data / "pool.zip", range(len(few_shot))))  # [N, H, W]
    learned = drop_small_labels(learned, MIN_LABEL_PIXELS)
    images, features = features_of(generator, few_shot, context.device)

    def report(step: int, steps: int, losses: dict[str, float]) -> None:
        context.run.log_metrics(losses, step)
        context.run.progress(step, steps, "step", f"loss {losses['loss_ce']:.3f}")

    ensemble = train_ensemble(
        features,
        learned.to(context.device),
        class_names=classes.names,
        members=params.members,
        epochs=params.epochs,
        lr=params.lr,
        seed=context.params.seed,
        report=report,
    )
    path = save_segmentation(context.out / "S.safetensors", ensemble)
    ensemble = load_segmentation(path, context.device)

    trained, *_ = segment(generator, ensemble, few_shot, context.device)
    validation = {}
    if holds_masks(data / "val.zip"):  # photographs often have none
        val_masks = torch.as_tensor(load_masks(data / "val.zip", range(len(latents["val"]))))  # [N, H, W]
        val_predicted, *_ = segment(generator, ensemble, latents["val"], context.device)
        scores = segmentation_scores(val_predicted, val_masks, classes.names)
        validation = named_scores(scores, f"val{len(val_masks)}")  # the metric for choosing settings
    predicted, divergence, images, members = segment(generator, ensemble, test, context.device)
    metrics = {
        **validation,
        f"uncertainty_test{len(test)}": float(image_uncertainty(divergence).mean()),
        f"accuracy_fewshot{len(few_shot)}": segmentation_scores(trained, learned, classes.names).pixel_accuracy,
    }
    truth = None
    if holds_masks(data / "test.zip"):  # labels of an own generator may be 16 pictures, all to learn from
        truth = torch.as_tensor(load_masks(data / "test.zip", range(len(test))))  # [N, H, W]
        scores = segmentation_scores(predicted, truth, classes.names)
        alone = [segmentation_scores(masks, truth, classes.names).miou for masks in members.unbind(1)]
        wrong = (predicted != truth) & (truth != IGNORE)
        metrics |= named_scores(scores, f"test{len(test)}") | {
            f"miou_one_member_test{len(test)}": sum(alone) / len(alone),
            f"uncertainty_auroc_test{len(test)}": uncertainty_auroc(divergence, wrong),
        }
        absent = metrics[f"absent_classes_test{len(test)}"]
        print(f"mIoU {scores.miou:.3f} over {len(scores.iou)} classes of {len(test)} test heads (absent: {absent})")
        context.run.set_tag("absent_classes", absent)
    write_json(context.out / "metrics.json", metrics)
    context.run.log_metrics({key: value for key, value in metrics.items() if isinstance(value, float)})

    photos = torch.as_tensor(load_images(data / "test.zip", range(len(test))))  # [N, 3, H, W]

    def picture(name: str, shown: Tensor) -> None:
        columns = {
            "image": photos[shown],
            "embedded": images[shown],
            **({} if truth is None else {"truth": colourize(truth[shown], palette)}),
            "prediction": colourize(predicted[shown], palette),
        }
        if truth is not None:
            black_white = torch.tensor([[0, 0, 0], [255, 255, 255]]).byte()
            columns["wrong"] = colourize((predicted[shown] != truth[shown]), black_white)
        columns["uncertainty"] = heatmap(divergence[shown], maximum=float(divergence.max()))
        context.run.log_image(save_png(context.out / name, labelled_grid(columns)), name)

    picture("predictions.png", torch.arange(min(SHOWN, len(test))))
    picture("uncertainty.png", image_uncertainty(divergence).argsort(descending=True)[:SHOWN])


def named_scores(scores: SegmentationScores, suffix: str) -> dict:
    """Scores as named in metrics.json; a class absent from the ground truth has no entry under `iou_`."""
    return {
        f"miou_{suffix}": scores.miou,
        f"pixel_accuracy_{suffix}": scores.pixel_accuracy,
        f"iou_{suffix}": scores.iou,
        f"absent_classes_{suffix}": ", ".join(scores.absent) or "none",
    }
