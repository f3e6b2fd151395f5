"""Stage `judges`: train the guide and the judge, measure all judges, write the table of their quality."""

from pathlib import Path

import torch
from torch import Tensor

from editgan.assets.load import load_network
from editgan.config import flat_keys
from editgan.data.archive import count, load_attributes, load_images
from editgan.data.training import training_folder
from editgan.errors import UserError
from editgan.judges.classifier import SmileClassifier, SmileConvNet, SmileResNet, initialise
from editgan.judges.load import SMILE_JUDGES, load_guide, load_judge
from editgan.judges.quality import agreement, identity_quality, measure, quality_table, smile_quality
from editgan.judges.train import LabelledHeads, classifier_training, select_clear, split_halves
from editgan.runtime.stage import StageContext
from editgan.training import CURVE_FILE, DIGITS, count_parameters, generator_for, train
from editgan.weights import save_module, write_bytes, write_json

IDENTITY_NETWORKS = ("mobilefacenet", "dlib_resnet")


def run(context: StageContext) -> None:
    """Train both classifiers, then measure them and the pretrained judges on validation and test heads."""
    params = context.params.judges
    clear_val(context)  # before the training
    training: dict[str, dict[str, float]] = {}
    for name, heads in training_halves(training_folder(context), params.smile_threshold, context.params.seed).items():
        training[name] = {"smiling": int(heads.smiling.sum()), "neutral": int((~heads.smiling).sum())}
        print(f"{name}: {training[name]['smiling']} smiling and {training[name]['neutral']} neutral heads", flush=True)
        train_and_save(context, name, heads)

    metrics = measure_judges(context)
    metrics["training_heads"] = training
    write_json(context.out / "metrics.json", metrics)
    table = quality_table(metrics, rendered=context.params.data.source == "heads")
    write_bytes(context.out / "quality.md", table.encode())
    context.run.log_metrics(flat_keys(metrics))
    context.run.log_file(context.out / "quality.md")


def training_halves(data: Path, threshold: float, seed: int) -> dict[str, LabelledHeads]:
    """Training heads with clear labels: half A of the people for the guide, half B for the judge."""
    attributes = load_attributes(data / "train_labels.zip")
    images = torch.as_tensor(load_images(data / "train.zip"))  # [N, 3, H, W]
    if len(images) != len(attributes):
        raise UserError(
            f"{data}: train.zip holds {len(images)} images, train_labels.zip {len(attributes)} labels;"
            " run stage data again"
        )
    identities = [row["identity"] for row in attributes]
    clear, smiling = select_clear([row["smile"] for row in attributes], threshold)
    halves = dict(zip(("guide", "judge"), split_halves(identities, seed), strict=True))
    heads = {}
    for name, people in halves.items():
        mine = torch.tensor([identities[index] in people for index in clear.tolist()])
        if not 0 < int(smiling[mine].sum()) < int(mine.sum()):
            raise UserError(
                f"judges.smile_threshold {threshold}: the half of {data / 'train.zip'} for the {name} has no smiling"
                " or no neutral heads; lower the threshold or render more heads (data.train)"
            )
        heads[name] = LabelledHeads(images=images[clear[mine]], smiling=smiling[mine])
    return heads


def train_and_save(context: StageContext, name: str, heads: LabelledHeads) -> None:
    """Train the guide or the judge and write outputs/judges/NAME.safetensors."""
    params, seed = context.params.judges, context.params.seed
    cls: type[SmileClassifier] = SmileConvNet if name == "guide" else SmileResNet
    config = {
        "input_resolution": max(32, context.params.resolution // 2),  # the lower face is half of the picture's side
        "width": params.guide_width if name == "guide" else 2 * params.guide_width,
    }
    net = initialise(cls(**config), generator_for(seed, "judges", name, "initial"))
    work, curve = context.work / name, context.out / f"stats_{name}.jsonl"
    training = classifier_training(net, heads, params, name=name, seed=seed, device=context.device)
    train(training, context.run, work, prefix=f"{name}_")
    save_module(context.out / f"{name}.safetensors", net, config, {"parameters": count_parameters(net)})
    context.run.log_file(write_bytes(curve, (work / CURVE_FILE).read_bytes()))


def clear_val(context: StageContext) -> tuple[Tensor, Tensor]:
    """Indices of the validation heads with clear labels, and which of them smile. Raises UserError: all or none do."""
    path = context.input("data") / "val.zip"
    smile = [row["smile"] for row in load_attributes(path)]
    clear, smiling = select_clear(smile, context.params.judges.smile_threshold)
    if not 0 < int(smiling.sum()) < len(smiling):
        raise UserError(f"{path}: has no smiling or no neutral heads to measure the judges on; raise data.val")
    return clear, smiling


def measure_judges(context: StageContext) -> dict:
    """Quality of every judge and guide on test pairs (neutral, smiling) and on validation heads with clear labels.

    Photographs without such pairs: identity is not measured, and smiles only on validation pictures.
    """
    params, data, assets, device = context.params.judges, context.input("data"), context.input("assets"), context.device
    clear, val_smiling = clear_val(context)
    val = torch.as_tensor(load_images(data / "val.zip", clear.tolist()))
    metrics = {"identity": {}, "smile": {}, "smile_threshold": params.smile_threshold, "val_heads": len(val)}
    sets = {"val": (val, val_smiling)}
    if count(data / "test_smiling.zip") > 0:
        neutral = torch.as_tensor(load_images(data / "test.zip"))
        pairs = torch.cat([neutral, torch.as_tensor(load_images(data / "test_smiling.zip"))])  # [2 N, 3, H, W]
        sets = {"test": (pairs, torch.arange(len(pairs)) >= len(neutral)), **sets}
        identities = [row["identity"] for row in load_attributes(data / "test.zip")]
        metrics["test_heads"] = len(neutral)
        for name in IDENTITY_NETWORKS:
            features = measure(load_network(name, assets).to(device), pairs, device=device)
            metrics["identity"][name] = identity_quality(features[: len(neutral)], features[len(neutral) :], identities)

    probabilities, names = {}, (*SMILE_JUDGES, "guide")
    for done, name in enumerate(names):
        context.run.progress(done, len(names), "networks measured", name)
        net = _smile_network(name, context).to(device)
        found = {split: measure(net.smile, images, device=device) for split, (images, _) in sets.items()}
        metrics["smile"][name] = {split: smile_quality(found[split], smiling) for split, (_, smiling) in sets.items()}
        probabilities[name] = next(iter(found.values()))
    context.run.progress(len(names), len(names), "networks measured")
    return _rounded(metrics | {"agreement": agreement(probabilities)})


def _smile_network(name: str, context: StageContext) -> torch.nn.Module:
    if name == "guide":
        return load_guide(context.out)
    return load_judge(context.out) if name == "judge" else load_network(name, context.input("assets"))


def _rounded(content):
    """Round every float of nested dicts to DIGITS."""
    if isinstance(content, dict):
        return {key: _rounded(value) for key, value in content.items()}
    return round(content, DIGITS) if isinstance(content, float) else content
