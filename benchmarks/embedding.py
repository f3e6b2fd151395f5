"""Reconstruction quality and cost of each embedding method, with the trained models.

    python benchmarks/embedding.py [--outputs outputs] [--heads 100] [--tuned 10] [--rates 0.05 0.1]
        [--steps 0 10 30 100] [--consistency 1] [--identity 4]

The first row is the stored result of stage `encoder` for these heads, so `--split test --heads 400 --steps 0 --rates
0.05 --tuned 0` measures all test heads without embedding any. Methods: the encoder alone (the reference); 10, 30 and
100 steps in W+ after it for each peak learning rate; 100 steps with the released code's encoder-consistency term, and
100 steps with an identity loss (dlib's face network), at the last learning rate; and pivotal tuning after the 100 steps
without either. L2 is of images in [-1, 1]. LPIPS uses AlexNet, identity is the cosine of MobileFaceNet's ArcFace
features; neither network is used in training. Tuning needs a copy of the generator for each head, so it uses fewer
heads; the other methods are also listed for these heads.
"""

import argparse
import time
from pathlib import Path

import torch
from torch import Tensor

from editgan.assets.load import load_network
from editgan.data.archive import load_images
from editgan.editor.editor import Editor
from editgan.encoder.encoder import load_latents
from editgan.images import mean_squared_error, to_float


def figures(photos: Tensor, images: Tensor, networks: dict) -> list[float]:
    """[L2, LPIPS-Alex, SSIM, identity], means over uint8 [N, 3, H, W]."""
    from torchmetrics.functional.image import structural_similarity_index_measure as ssim  # after editgan._compat

    x, y = to_float(photos), to_float(images)
    with torch.no_grad():
        identity = (networks["mobilefacenet"](x) * networks["mobilefacenet"](y)).sum(1)
        lpips = networks["lpips_alex"](x, y)
    similarity = ssim(y, x, data_range=2.0)
    return [mean_squared_error(x, y).mean().item(), lpips.mean().item(), similarity.item(), identity.mean().item()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--outputs", type=Path, default=Path("outputs"), help="folder with the trained models")
    parser.add_argument("--split", choices=("val", "test"), default="val", help="choose on val; test is for the report")
    parser.add_argument("--heads", type=int, default=100)
    parser.add_argument("--rates", nargs="+", type=float, default=[0.05, 0.1], help="peaks of the learning rate")
    parser.add_argument("--steps", nargs="+", type=int, default=[0, 10, 30, 100], help="of optimisation, 0 first")
    parser.add_argument("--consistency", type=float, default=1.0, help="weight of encoder consistency; 0: no such rung")
    parser.add_argument("--identity", type=float, default=4.0, help="weight of the identity loss; 0: no such rung")
    parser.add_argument("--tuned", type=int, default=10, help="heads for which the generator is tuned")
    options = parser.parse_args()
    editor = Editor.load(options.outputs)
    networks = {name: load_network(name, options.outputs / "assets") for name in ("mobilefacenet", "lpips_alex")}
    photos = torch.as_tensor(load_images(options.outputs / "data" / f"{options.split}.zip", range(options.heads)))
    print(f"{options.split} heads, {torch.get_num_threads()} threads, torch {torch.__version__}\n")
    print("| rung | heads | L2 | LPIPS-Alex | SSIM | identity | ms a head |")
    print("|---|---:|---:|---:|---:|---:|---:|")

    def row(name: str, images: Tensor, seconds: float | None) -> None:
        l2, lpips, similarity, identity = figures(photos[: len(images)], images, networks)
        cells = f"{l2:.4f} | {lpips:.3f} | {similarity:.3f} | {identity:.3f}"
        cells += " | -" if seconds is None else f" | {1000 * seconds / len(images):.0f}"
        print(f"| {name} | {len(images)} | {cells} |", flush=True)

    made, embedded = {}, load_latents(options.outputs / "encoder" / "latents.safetensors")[options.split]
    row("as stage encoder left them", editor.render(embedded[: options.heads]), None)
    for rate in options.rates:
        for steps in options.steps:
            name = f"encoder, {steps} steps at {rate:g}" if steps else "encoder alone"
            if name in made:
                continue
            start = time.perf_counter()
            made[name] = editor.set_image(photos, steps=steps, lr=rate)
            row(name, made[name], time.perf_counter() - start)
    latents, tuned, seconds, most, rate = editor.w_plus, [], 0.0, options.steps[-1], options.rates[-1]
    terms = {"encoder consistency": "consistency_weight", "identity loss": "identity_weight"}
    for (term, argument), weight in zip(terms.items(), (options.consistency, options.identity), strict=True):
        if most and weight:
            name, start = f"encoder, {most} steps at {rate:g}, {term} {weight:g}", time.perf_counter()
            made[name] = editor.set_image(photos, steps=most, lr=rate, **{argument: weight})
            row(name, made[name], time.perf_counter() - start)
    count = min(options.tuned, options.heads)
    if not count:
        return
    for name, images in made.items():
        row(name, images[:count], None)
    for index in range(count):
        editor.set_latents(latents[index : index + 1])
        editor.photos = photos[index : index + 1]
        start = time.perf_counter()
        tuned.append(editor.tune(steps=100))
        seconds += time.perf_counter() - start
    row("100 steps, then 100 of tuning (alone)", torch.cat(tuned), seconds)


if __name__ == "__main__":
    main()
