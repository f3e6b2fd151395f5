"""Stage `samples`: compare samples of the generator with real images, unchanged and slightly distorted."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from editgan.assets.load import for_inference, load_network
from editgan.data.archive import count, load_images
from editgan.data.protocol import load_protocol
from editgan.data.training import training_folder
from editgan.errors import UserError
from editgan.generator.generator import Generator, load_generator
from editgan.images import labelled_grid, save_png, to_uint8
from editgan.judges.quality import SMILE_THRESHOLD, measure
from editgan.metrics import KID_SUBSETS, NEIGHBOURS, Reference, check_packages, kernel_distance, precision_and_recall
from editgan.runtime.stage import StageContext
from editgan.samples.measures import blurred, nearest_images, noisy, perceptual_path_length
from editgan.samples.report import JUDGED_IMAGES, Measure, Measured, report
from editgan.training import DIGITS, generator_for
from editgan.weights import write_bytes, write_json

FEATURES, DISTANCE, DETECTOR = "efflite0", "lpips_alex", "blazeface"
SECOND_FEATURES = "alexnet"  # AlexNet of `lpips`: mean and standard deviation of its last map, standardised
LEAST_DEVIATION = 1e-3  # relative to the largest; features below this are constant
SMILE_NETWORKS = ("face_api_expression", "fer")
DETECTED = 0.5  # score from which on a face counts as detected
BATCH = 50  # images at a time through a network
NEAREST = 16  # samples shown beside their nearest training image
Features = Callable[[Tensor], Tensor]
SAMPLES, REAL, NEUTRAL_TO_SMILING = "samples", "real", "neutral_to_smiling"


def run(context: StageContext) -> None:
    """G_ema -> metrics.json, table.md, nearest.png."""
    params, device, data = context.params.samples, context.device, training_folder(context)
    images = torch.from_numpy(load_images(data / "train.zip"))  # uint8 [N, 3, H, W]
    if len(images) < 2 * params.images:
        raise UserError(
            f"samples.images {params.images}: two sets of this many real images are compared, but"
            f" {data / 'train.zip'} holds {len(images)}; lower it or raise data.train"
        )
    G = load_generator(context.input("generator") / "G_ema.safetensors", device)
    reference, others = images[: params.images], images[params.images : 2 * params.images]
    rows = {
        SAMPLES: draw(G, params.images, context),
        REAL: others,
        "real_blurred": blurred(others),
        "real_noisy": noisy(others, generator_for(context.params.seed, "samples", "noise")),
    }
    measured, faces = compare(reference, rows, context), load_protocol(context.input("data")).faces
    for name in rows if faces else ():
        measured[name] |= judge(rows[name][:JUDGED_IMAGES], name, context)
    lpips = load_network(DISTANCE, context.input("assets")).to(device)
    context.run.progress(0, 1, "path length", "neighbours in W")
    rng = generator_for(context.params.seed, "samples", "path")
    length = perceptual_path_length(G, lpips, pairs=params.path_pairs, batch=BATCH, device=device, rng=rng)
    measured[SAMPLES][Measure("ppl", params.path_pairs, DISTANCE)] = length
    measured |= heads_apart(context)
    measured |= nearest(rows[SAMPLES][:NEAREST], images, context)
    measured = {row: {one: round(value, DIGITS) for one, value in of.items()} for row, of in measured.items()}
    metrics = {row: {one.name: value for one, value in of.items()} for row, of in measured.items()}
    write_json(context.out / "metrics.json", metrics)
    write_bytes(context.out / "table.md", report(measured, params, faces=faces).encode())
    context.run.log_metrics({f"{row}.{name}": value for row, of in metrics.items() for name, value in of.items()})
    context.run.log_file(context.out / "table.md")
    context.run.log_image(context.out / "nearest.png", "nearest")


def draw(G: Generator, count: int, context: StageContext) -> Tensor:
    """Samples without truncation, uint8 [N, 3, H, W]."""
    z = torch.randn(count, G.z_dim, generator=generator_for(context.params.seed, "samples", "z"))
    parts = []
    with torch.no_grad():
        for part in z.split(BATCH):
            parts.append(to_uint8(G(part.to(context.device))).cpu())
            context.run.progress(sum(map(len, parts)), count, "samples", "drawn")
    return torch.cat(parts)


def compare(reference: Tensor, rows: dict[str, Tensor], context: StageContext) -> Measured:
    """FID, KID, precision and recall of each row against the reference images, with both feature networks."""
    sets, seed = {"the reference": reference} | rows, context.params.seed
    total, done = 2 * sum(map(len, sets.values())), 0
    figures: Measured = {name: {} for name in rows}
    for kind, function in feature_functions(context).items():
        found = {}
        for name, images in sets.items():

            def show(count: int, before: int = done, message: str = f"{kind} features of {name}") -> None:
                context.run.progress(before + count, total, "images", message)

            found[name] = measure(function, images, device=context.device, batch=BATCH, on_batch=show)  # float64 [N, D]
            done += len(images)
        if kind == SECOND_FEATURES:
            scale = standardised_by(found["the reference"])
            found = {name: scale(features) for name, features in found.items()}
        real = found.pop("the reference")
        check_packages(next(iter(found.values())), real, seed=seed)
        known = Reference.of(real, count=len(real), seed=seed)
        for name, mine in found.items():
            precision, recall = precision_and_recall(mine.float(), real.float(), NEIGHBOURS)
            figures[name] |= {
                Measure("fid", len(reference), kind): known.fid(mine),
                Measure("kid", len(reference), kind): known.kid(mine, seed=seed),
                Measure("precision", len(reference), kind): precision,
                Measure("recall", len(reference), kind): recall,
            }
    return figures


def feature_functions(context: StageContext) -> dict[str, Features]:
    """Feature networks for FID, KID, precision and recall: float images [N, 3, H, W] in [-1, 1] -> [N, D].

    The generator's projected discriminator uses EfficientNet-Lite1, which is related to the first network. The second,
    AlexNet, is unrelated to all training networks: if the two disagree, trust AlexNet.
    """
    return {FEATURES: judging(FEATURES, context), SECOND_FEATURES: judging(DISTANCE, context).spread}


def judging(name: str, context: StageContext) -> nn.Module:
    return for_inference(load_network(name, context.input("assets"))).to(context.device)


def standardised_by(reference: Tensor) -> Features:
    """Shift and scale each feature so the reference [N, D] has mean 0 and deviation 1; drop constant features."""
    mean, deviation = reference.mean(0), reference.std(0)
    kept = deviation > LEAST_DEVIATION * deviation.max()
    return lambda found: ((found - mean) / deviation)[:, kept]


def judge(images: Tensor, name: str, context: StageContext) -> dict[Measure, float]:
    """Percent of images in which the detector finds a face, and which each expression network calls smiling."""

    def percent(function: Features, threshold: float) -> float:
        def show(done: int) -> None:
            context.run.progress(done, len(images), "images", f"judging {name}")

        found = measure(function, images, device=context.device, batch=BATCH, on_batch=show)
        return 100 * float((found >= threshold).double().mean())

    detector = judging(DETECTOR, context)
    faces = Measure("face", len(images), DETECTOR)
    figures = {faces: percent(lambda x: detector.detect(x)[0], DETECTED)}
    for network in SMILE_NETWORKS:
        smiling = Measure("smiling", len(images), network)
        figures[smiling] = percent(judging(network, context).smile, SMILE_THRESHOLD)
    return figures


def heads_apart(context: StageContext) -> Measured:
    """KID between neutral and smiling test heads, for comparison: a clearly visible difference; {} if unpaired."""
    data = context.input("data")
    if count(data / "test_smiling.zip") == 0:
        return {}
    network = judging(FEATURES, context)
    pictures = (torch.from_numpy(load_images(data / name)) for name in ("test.zip", "test_smiling.zip"))
    both = [measure(network, images, device=context.device, batch=BATCH) for images in pictures]
    kid = kernel_distance(*both, subsets=KID_SUBSETS, seed=context.params.seed)
    return {NEUTRAL_TO_SMILING: {Measure("kid", len(both[0]), FEATURES): kid}}


def nearest(samples: Tensor, images: Tensor, context: StageContext) -> Measured:
    """Save samples next to their nearest training images; compare with the distances of unseen real heads."""
    test = context.input("data") / "test.zip"
    unseen = torch.from_numpy(load_images(test, range(min(len(samples), count(test)))))
    found, errors = nearest_images(samples, images)
    save_png(context.out / "nearest.png", labelled_grid({"sample": samples, "nearest in training": found}))
    figures = {}
    for side, distances in {"samples": errors, "unseen_real": nearest_images(unseen, images)[1]}.items():
        figures[Measure(f"{side}_l2_to_nearest", len(distances))] = float(distances.mean())
        figures[Measure(f"{side}_least_l2_to_nearest", len(distances))] = float(distances.min())
    return {"copies": figures}
