"""Time and memory of the segmentation's readout and of its part in an edit step, compared with the full feature stack.

    python benchmarks/segmentation.py [--sizes 64 256 512] [--repeats 3]

The reference reads features like the released code: every map is upsampled to full resolution, all channels are
stacked, and each member's three layers run on every pixel. *projected* applies the first layer at each map's own
resolution. *region* does so only for the pixels of a region, as needed for an edit. Sizes: the 64 px default (960
channels), 256 px with the channels of StyleGAN2's paper256 (4,992), 512 px with those of config-f (6,016, forward
only), each with 10 members and 20 classes. Features are random. Each measurement uses a separate process, so peak
memory is per measurement.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from editgan.editing.objective import map_sides
from editgan.generator.generator import channels_at, resolutions_of
from editgan.segmentation.ensemble import SegmentationEnsemble
from editgan.segmentation.pixels import full_feature_stack, pixel_sampler

CHANNELS = {64: (2048, 128), 256: (16384, 512), 512: (32768, 512)}  # size: (channel_base, channel_max)
FORWARD_ONLY = {512}
CLASSES, MEMBERS = 20, 10
REGION = 0.05  # part of the pixels that an edit touches
PATHS = ("full", "projected", "region")


def setting(size: int) -> tuple[SegmentationEnsemble, list[Tensor], Tensor]:
    """(ensemble, feature maps of one image, pixels of a square region [P])."""
    torch.manual_seed(0)
    base, most = CHANNELS[size]
    channels = [channels_at(resolution, base, most) for resolution in resolutions_of(size) for _ in range(2)]
    ensemble = SegmentationEnsemble(feature_channels=channels, num_classes=CLASSES, members=MEMBERS)
    for weight in (ensemble.weight1, ensemble.weight2, ensemble.weight3):
        torch.nn.init.normal_(weight, std=0.1)
    sides = map_sides(len(channels))
    features = [
        torch.randn(1, count, side, side).contiguous(memory_format=torch.channels_last)
        for count, side in zip(channels, sides, strict=True)
    ]
    edge = round(size * REGION**0.5)
    square = torch.zeros(size, size, dtype=torch.bool)
    square[size // 2 : size // 2 + edge, size // 2 - edge // 2 : size // 2 - edge // 2 + edge] = True
    return ensemble.eval().requires_grad_(False), features, square.flatten().nonzero()[:, 0]


def full_logits(ensemble: SegmentationEnsemble, features: list[Tensor], size: int) -> Tensor:
    """Mean logits of all pixels from the stack of all channels, member by member.  # [size * size, K]"""
    stack = full_feature_stack(features, size).flatten(2)[0].t()  # [size * size, sum C_k]
    total = torch.zeros(())
    for member in range(ensemble.members):
        hidden = F.relu(F.linear(stack, ensemble.weight1[member], ensemble.bias1[member]))
        hidden = F.relu(F.linear(normalised(hidden, ensemble.norm1, member, ensemble.members),
                                 ensemble.weight2[member], ensemble.bias2[member]))  # fmt: skip
        hidden = normalised(hidden, ensemble.norm2, member, ensemble.members)
        total = total + F.linear(hidden, ensemble.weight3[member], ensemble.bias3[member])
    return total / ensemble.members


def normalised(hidden: Tensor, norm: torch.nn.BatchNorm1d, member: int, members: int) -> Tensor:
    """A member's batch normalisation with fixed statistics: [P, H] -> [P, H]."""
    mean, variance, weight, bias = (
        one.view(members, -1)[member] for one in (norm.running_mean, norm.running_var, norm.weight, norm.bias)
    )
    return F.batch_norm(hidden, mean, variance, weight, bias, training=False, eps=norm.eps)


def measure(path: str, size: int, work: str, repeats: int) -> dict[str, object]:
    """Best seconds and peak memory beyond the inputs, MiB, of one read-out or one edit step; and what came out."""
    ensemble, features, pixels = setting(size)
    labels = torch.arange(len(pixels)) % CLASSES
    sampler = pixel_sampler(pixels, size, [feature.shape[-1] for feature in features]) if path == "region" else None
    readers: dict[str, Callable[[], Tensor]] = {
        "full": lambda: full_logits(ensemble, features, size)[pixels],
        "projected": lambda: ensemble.mean_logits(features, size)[0].flatten(1).t()[pixels],
        "region": lambda: ensemble.pixel_logits(features, sampler).mean(1),
    }
    if work == "edit":
        features = [feature.requires_grad_() for feature in features]

    def once() -> Tensor:
        logits = readers[path]()  # [P, K]
        if work == "edit":
            gradients = torch.autograd.grad(F.cross_entropy(logits, labels), features)
            return torch.cat([logits.detach().flatten(), *(one.flatten()[:1000] for one in gradients)])
        return logits.detach().flatten()

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    best = float("inf")
    with torch.set_grad_enabled(work == "edit"):
        for _ in range(repeats):
            start = time.perf_counter()
            found = once()
            best = min(best, time.perf_counter() - start)
    peak = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    return dict(seconds=best, peak=peak, found=found[::37].tolist())


def in_a_process(path: str, size: int, work: str, repeats: int) -> dict[str, object]:
    options = {"--path": path, "--sizes": size, "--work": work, "--repeats": repeats}
    arguments = [str(part) for pair in options.items() for part in pair]
    done = subprocess.run([sys.executable, __file__, *arguments], stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", nargs="+", type=int, choices=list(CHANNELS), default=list(CHANNELS))
    parser.add_argument("--repeats", type=int, default=3, help="the best of so many counts")
    parser.add_argument("--path", choices=PATHS, help=argparse.SUPPRESS)
    parser.add_argument("--work", choices=("read", "edit"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.path:
        print(json.dumps(measure(options.path, options.sizes[0], options.work, options.repeats)))
        return
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}, {MEMBERS} members, {CLASSES} classes\n")
    print("| px | work | path | s | times faster | peak MiB | of the peak | differs by |")
    print("|---:|---|---|---:|---:|---:|---:|---:|")
    for size in options.sizes:
        for work, paths in (("read", PATHS[:2]), ("edit", PATHS)):
            if work == "edit" and size in FORWARD_ONLY:
                continue
            first = None
            for path in paths:
                row = in_a_process(path, size, work, options.repeats)
                first = first or row
                wanted, found = torch.tensor(first["found"]), torch.tensor(row["found"])
                difference = float((wanted - found).abs().max() / wanted.abs().max())
                cells = (
                    size, {"read": "read-out", "edit": f"edit step, region {REGION:.0%}"}[work], path,
                    f"{row['seconds']:.3f}", f"{first['seconds'] / row['seconds']:.1f}", f"{row['peak']:.0f}",
                    f"{row['peak'] / max(first['peak'], 1):.2f}", f"{difference:.0e}",
                )  # fmt: skip
                print("| " + " | ".join(str(cell) for cell in cells) + " |", flush=True)


if __name__ == "__main__":
    main()
