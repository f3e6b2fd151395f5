"""Stage `judges`: train the guide and the judge, measure all judges, write the table of their quality."""

from pathlib import Path

import torch
from torch import Tensor

from editgan.assets.load import load_network
from editgan.config import flat_keys
from editgan.data.archive import count, load_attributes, load_images
from editgan.data.protocol import FILE, Protocol, load_protocol
from editgan.data.training import changed_pictures, training_folder
from editgan.errors import UserError
from editgan.judges.classifier import SmileClassifier, SmileConvNet, SmileResNet, initialise
from editgan.judges.load import load_guide, load_judge
from editgan.judges.quality import (
    agreement,
    classifier_table,
    identity_quality,
    measure,
    quality_table,
    smile_quality,
)
from editgan.judges.train import LabelledHeads, classifier_training, select_clear, split_halves
from editgan.runtime.stage import StageContext
from editgan.training import CURVE_FILE, DIGITS, count_parameters, generator_for, train
from editgan.weights import save_module, write_bytes, write_json

IDENTITY_NETWORKS = ("mobilefacenet", "dlib_resnet")


def run(context: StageContext) -> None:
    """Train both classifiers, then measure them and the pretrained judges on validation and test heads."""
    protocol = load_protocol(context.input("data"))
    clear_val(context)  # before the training
    training: dict[str, dict[str, float]] = {}
    changed = changed_pictures(context)
    for name, heads in training_halves(training_folder(context), bounds(context), context.params.seed, changed).items():
        training[name] = {"smiling": int(heads.smiling.sum()), "neutral": int((~heads.smiling).sum())}
        if protocol.faces:
            said = f"{training[name]['smiling']} smiling and {training[name]['neutral']} neutral heads"
        else:
            training[name] = {"with": training[name]["smiling"], "without": training[name]["neutral"]}
            said = f"{training[name]['with']} pictures with {protocol.attribute}, {training[name]['without']} without"
        print(f"{name}: {said}", flush=True)
        train_and_save(context, name, heads)

    metrics = measure_judges(context)
    metrics["training_heads"] = training
    write_json(context.out / "metrics.json", metrics)
    if protocol.faces:
        table = quality_table(metrics, rendered=context.params.data.source == "heads")
    else:
        table = classifier_table(metrics, protocol)
    write_bytes(context.out / "quality.md", table.encode())
    context.run.log_metrics(flat_keys(metrics))
    context.run.log_file(context.out / "quality.md")


def bounds(context: StageContext) -> Protocol:
    """The attribute, and the values up to which and from which on a picture is without it or has it."""
    protocol = load_protocol(context.input("data"))
    return protocol.model_copy(update={"high": context.params.judges.smile_threshold}) if protocol.faces else protocol


def training_halves(data: Path, protocol: Protocol, seed: int, changed: Path | None = None) -> dict[str, LabelledHeads]:
    """Training heads with clear labels: half A of the people for the guide, half B for the judge.

    changed: archive of the first of them with the attribute changed; None: none. With it, the pictures without the
    attribute are learned beside the same ones with it.
    """
    attributes = load_attributes(data / "train_labels.zip")
    images = torch.as_tensor(load_images(data / "train.zip"))  # [N, 3, H, W]
    if len(images) != len(attributes):
        raise UserError(
            f"{data}: train.zip holds {len(images)} images, train_labels.zip {len(attributes)} labels;"
            " run stage data again"
        )
    if changed is not None:
        known = len(load_attributes(changed))
        without = [index for index, row in enumerate(attributes[:known]) if protocol.without(row)]
        pairs = [images[without], torch.as_tensor(load_images(changed, without))]
        images = torch.cat(pairs)
        attributes = [attributes[index] for index in without]
        attributes += [row | {protocol.attribute: protocol.high} for row in attributes]
    identities = [row["identity"] for row in attributes]
    clear, smiling = select_clear([protocol.value(row) for row in attributes], protocol.high, protocol.low)
    halves = dict(zip(("guide", "judge"), split_halves(identities, seed), strict=True))
    heads = {}
    for name, people in halves.items():
        mine = torch.tensor([identities[index] in people for index in clear.tolist()])
        if not 0 < int(smiling[mine].sum()) < int(mine.sum()):
            if not protocol.faces:
                raise UserError(
                    f"{data / 'train.zip'}: the half for the {name} has no pictures with {protocol.attribute} (from"
                    f" {protocol.high:g} on) or none without it (up to {protocol.low:g}); raise data.train or change"
                    " these bounds of the benchmark"
                )
            raise UserError(
                f"judges.smile_threshold {protocol.high}: the half of {data / 'train.zip'} for the {name} has no"
                " smiling or no neutral heads; lower the threshold or render more heads (data.train)"
            )
        heads[name] = LabelledHeads(images=images[clear[mine]], smiling=smiling[mine])
    return heads


def train_and_save(context: StageContext, name: str, heads: LabelledHeads) -> None:
    """Train the guide or the judge and write outputs/judges/NAME.safetensors."""
    params, seed = context.params.judges, context.params.seed
    cls: type[SmileClassifier] = SmileConvNet if name == "guide" else SmileResNet
    whole, side = not load_protocol(context.input("data")).faces, context.params.resolution
    config = {
        "input_resolution": side if whole else max(32, side // 2),  # the lower face is half of the picture's side
        "width": params.guide_width if name == "guide" else 2 * params.guide_width,
    }
    config |= {"whole": True} if whole else {}
    net = initialise(cls(**config), generator_for(seed, "judges", name, "initial"))
    work, curve = context.work / name, context.out / f"stats_{name}.jsonl"
    training = classifier_training(net, heads, params, name=name, seed=seed, device=context.device)
    train(training, context.run, work, prefix=f"{name}_")
    save_module(context.out / f"{name}.safetensors", net, config, {"parameters": count_parameters(net)})
    context.run.log_file(write_bytes(curve, (work / CURVE_FILE).read_bytes()))


def clear_val(context: StageContext) -> tuple[Tensor, Tensor]:
    """Indices of the validation heads with clear labels, and which of them smile. Raises UserError: all or none do."""
    path, protocol = context.input("data") / "val.zip", bounds(context)
    values = [protocol.value(row) for row in load_attributes(path)]
    clear, smiling = select_clear(values, protocol.high, protocol.low)
    if not 0 < int(smiling.sum()) < len(smiling):
        what = (
            "smiling or no neutral heads" if protocol.faces else f"pictures with or none without {values_of(protocol)}"
        )
        if context.params.data.source == "folder" and protocol.faces:
            what += f" (pictures of another class need {FILE} in their folder, docs/data.md)"
        raise UserError(f"{path}: has no {what} to measure the judges on; raise data.val")
    return clear, smiling


def values_of(protocol: Protocol) -> str:
    """The attribute with its bounds."""
    return f"{protocol.attribute} (up to {protocol.low:g} without, from {protocol.high:g} on with)"


def measure_judges(context: StageContext) -> dict:
    """Quality of every judge and guide on test pairs (neutral, smiling) and on validation heads with clear labels.

    Photographs without such pairs: identity is not measured, and smiles only on validation pictures. Of other classes
    the two classifiers are measured, on test pairs whose first picture is without the attribute.
    """
    params, data, assets, device = context.params.judges, context.input("data"), context.input("assets"), context.device
    protocol = load_protocol(data)
    clear, val_smiling = clear_val(context)
    val = torch.as_tensor(load_images(data / "val.zip", clear.tolist()))
    metrics = {"identity": {}, "smile": {}, "smile_threshold": params.smile_threshold, "val_heads": len(val)}
    if not protocol.faces:
        metrics = {"identity": {}, "smile": {}, "val_heads": len(val)}
    sets = {"val": (val, val_smiling)}
    if count(data / "test_smiling.zip") > 0:
        rows = load_attributes(data / "test.zip")
        some = None if protocol.faces else [i for i, row in enumerate(rows) if protocol.value(row) <= protocol.low]
        neutral = torch.as_tensor(load_images(data / "test.zip", some))
        pairs = torch.cat([neutral, torch.as_tensor(load_images(data / "test_smiling.zip", some))])  # [2 N, 3, H, W]
        sets = {"test": (pairs, torch.arange(len(pairs)) >= len(neutral)), **sets}
        identities = [row["identity"] for row in rows]
        metrics["test_heads"] = len(neutral)
        for name in IDENTITY_NETWORKS if protocol.faces else ():
            features = measure(load_network(name, assets).to(device), pairs, device=device)
            metrics["identity"][name] = identity_quality(features[: len(neutral)], features[len(neutral) :], identities)

    networks = protocol.judges if protocol.faces else ("judge",)  # the parser is trained later, in stage maskgan
    probabilities, names = {}, (*networks, "guide")
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
