"""Stage `samples`: compare samples of the generator with real images, unchanged and slightly distorted."""

from collections.abc import Callable

import torch
from torch import Tensor

from editgan.assets.inference import for_inference
from editgan.assets.load import load_network
from editgan.data.archive import count, load_images
from editgan.data.training import training_folder
from editgan.errors import UserError
from editgan.generator.generator import Generator, load_generator
from editgan.images import labelled_grid, save_png, to_uint8
from editgan.judges.quality import SMILE_THRESHOLD, measure
from editgan.metrics import KID_SUBSETS, Reference, check_packages, kernel_distance, precision_and_recall
from editgan.runtime.stage import StageContext
from editgan.samples.measures import blurred, nearest_images, noisy, perceptual_path_length
from editgan.samples.report import JUDGED_IMAGES, NEIGHBOURS, report
from editgan.training import generator_for
from editgan.weights import write_bytes, write_json

FEATURES, DISTANCE, DETECTOR = "efflite0", "lpips_alex", "blazeface"
SECOND_FEATURES = "alexnet"  # AlexNet of `lpips`: mean and standard deviation of its last map, standardised
LEAST_DEVIATION = 1e-3  # relative to the largest; features below this are constant
SMILE_NETWORKS = ("face_api_expression", "fer")
DETECTED = 0.5  # score from which on a face counts as detected
DIGITS = 6
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
    metrics = compare(reference, rows, context)
    for name in rows:
        metrics[name] |= judge(rows[name][:JUDGED_IMAGES], name, context)
    lpips = load_network(DISTANCE, context.input("assets")).to(device)
    context.run.progress(0, 1, "path length", "neighbours in W")
    metrics[SAMPLES][f"ppl{thousands(params.path_pairs)}_{DISTANCE}"] = perceptual_path_length(
        G,
        lpips,
        pairs=params.path_pairs,
        batch=BATCH,
        device=device,
        rng=generator_for(context.params.seed, "samples", "path"),
    )
    metrics |= heads_apart(context)
    copies = nearest(rows[SAMPLES][:NEAREST], images, context)
    write(context, round_all(metrics | copies))


def draw(G: Generator, count: int, context: StageContext) -> Tensor:
    """Samples without truncation, uint8 [N, 3, H, W]."""
    z = torch.randn(count, G.z_dim, generator=generator_for(context.params.seed, "samples", "z"))
    parts = []
    with torch.no_grad():
        for part in z.split(BATCH):
            parts.append(to_uint8(G(part.to(context.device))).cpu())
            context.run.progress(sum(map(len, parts)), count, "samples", "drawn")
    return torch.cat(parts)


def compare(reference: Tensor, rows: dict[str, Tensor], context: StageContext) -> dict[str, dict[str, float]]:
    """FID, KID, precision and recall of each row against the reference images, with both feature networks."""
    total, done = 2 * len(reference) * (len(rows) + 1), 0
    figures: dict[str, dict[str, float]] = {name: {} for name in rows}
    for kind, features_of in feature_functions(context).items():

        def features(images: Tensor, name: str, kind: str = kind, function: Features = features_of) -> Tensor:
            nonlocal done

            def show(count: int) -> None:
                context.run.progress(done + count, total, "images", f"{kind} features of {name}")

            found = measure(function, images, device=context.device, batch=BATCH, on_batch=show)
            done += len(images)
            return found  # float64 [N, D]

        real = features(reference, "the reference")
        scale = standardised_by(real) if kind == SECOND_FEATURES else lambda found: found
        real = scale(real)
        known = Reference.of(real, count=len(real), seed=context.params.seed)
        suffix = f"{thousands(len(reference))}_{kind}"
        for index, (name, images) in enumerate(rows.items()):
            mine = scale(features(images, name))
            if index == 0:
                check_packages(mine, real, seed=context.params.seed)
            precision, recall = precision_and_recall(mine.float(), real.float(), NEIGHBOURS)
            figures[name] |= {
                f"fid{suffix}": known.fid(mine),
                f"kid{suffix}": known.kid(mine, seed=context.params.seed),
                f"precision{suffix}": precision,
                f"recall{suffix}": recall,
            }
    return figures


def feature_functions(context: StageContext) -> dict[str, Features]:
    """Feature networks for FID, KID, precision and recall: float images [N, 3, H, W] in [-1, 1] -> [N, D].

    The generator's projected discriminator uses EfficientNet-Lite1, which is related to the first network. The second,
    AlexNet, is unrelated to all training networks: if the two disagree, trust AlexNet.
    """
    assets = context.input("assets")
    return {
        FEATURES: for_inference(load_network(FEATURES, assets)).to(context.device),
        SECOND_FEATURES: for_inference(load_network(DISTANCE, assets)).to(context.device).spread,
    }


def standardised_by(reference: Tensor) -> Features:
    """Shift and scale each feature so the reference [N, D] has mean 0 and deviation 1; drop constant features."""
    mean, deviation = reference.mean(0), reference.std(0)
    kept = deviation > LEAST_DEVIATION * deviation.max()
    return lambda found: ((found - mean) / deviation)[:, kept]


def judge(images: Tensor, name: str, context: StageContext) -> dict[str, float]:
    """Percent of images in which the detector finds a face, and which each expression network calls smiling."""
    batch, device, assets = BATCH, context.device, context.input("assets")
    detector, count = for_inference(load_network(DETECTOR, assets)).to(device), thousands(len(images))

    def show(done: int) -> None:
        context.run.progress(done, len(images), "images", f"judging {name}")

    scores = measure(lambda x: detector.detect(x)[0], images, device=device, batch=batch)
    figures = {f"face{count}_{DETECTOR}": 100 * float((scores >= DETECTED).double().mean())}
    for network in SMILE_NETWORKS:
        smile = for_inference(load_network(network, assets)).to(device).smile
        smiling = measure(smile, images, device=device, batch=batch, on_batch=show) >= SMILE_THRESHOLD
        figures[f"smiling{count}_{network}"] = 100 * float(smiling.double().mean())
    return figures


def heads_apart(context: StageContext) -> dict[str, dict[str, float]]:
    """KID between neutral and smiling test heads, for comparison: a clearly visible difference; {} if unpaired."""
    data = context.input("data")
    if count(data / "test_smiling.zip") == 0:
        return {}
    network = for_inference(load_network(FEATURES, context.input("assets"))).to(context.device)
    both = [
        measure(network, torch.from_numpy(load_images(data / name)), device=context.device, batch=BATCH)
        for name in ("test.zip", "test_smiling.zip")
    ]
    name = f"kid{thousands(len(both[0]))}_{FEATURES}"
    return {NEUTRAL_TO_SMILING: {name: kernel_distance(*both, subsets=KID_SUBSETS, seed=context.params.seed)}}


def nearest(samples: Tensor, images: Tensor, context: StageContext) -> dict[str, dict[str, float]]:
    """Save samples next to their nearest training images; compare with the distances of unseen real heads."""
    unseen = torch.from_numpy(load_images(context.input("data") / "test.zip", range(len(samples))))
    found, errors = nearest_images(samples, images)
    save_png(context.out / "nearest.png", labelled_grid({"sample": samples, "nearest in training": found}))
    _, unseen_errors = nearest_images(unseen, images)
    count, sides = len(samples), {"samples": errors, "unseen_real": unseen_errors}
    figures = {}
    for side, found in sides.items():
        figures[f"{side}_l2_to_nearest{count}"] = float(found.mean())
        figures[f"{side}_least_l2_to_nearest{count}"] = float(found.min())
    return {"copies": figures}


def write(context: StageContext, metrics: dict[str, dict[str, float]]) -> None:
    write_json(context.out / "metrics.json", metrics)
    write_bytes(context.out / "table.md", report(metrics, context.params.samples).encode())
    context.run.log_metrics({f"{row}.{name}": value for row, of in metrics.items() for name, value in of.items()})
    context.run.log_file(context.out / "table.md")
    context.run.log_image(context.out / "nearest.png", "nearest")


def thousands(count: int) -> str:
    """5000 -> "5k", 400 -> "400", as used in metric names."""
    return f"{count // 1000}k" if count % 1000 == 0 else str(count)


def round_all(metrics: dict[str, dict[str, float]]) -> dict[str, dict[str, float]]:
    return {row: {name: round(value, DIGITS) for name, value in of.items()} for row, of in metrics.items()}
