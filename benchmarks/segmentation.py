"""Time and memory of segmentation, and of its part of an edit step, compared with the full feature stack.

    python benchmarks/segmentation.py [--sizes 64 256 512]

The reference is as in the released code: every map is upsampled to full resolution, all channels are stacked, and each
member's three layers are applied to every pixel. *projected* applies the first layer at each map's own resolution.
*region* does this only for the pixels of a region, as in an edit. Channels: the 64 px default (960), StyleGAN2's
paper256 (4,992), config-f at 512 px (6,016, forward only). Features are random.
"""

import json
import resource
from collections.abc import Callable

import torch
import torch.nn.functional as F
from measuring import best_seconds, command_line, header, in_a_process, row
from torch import Tensor

from editgan.editing.objective import map_sides
from editgan.generator.generator import channels_at, resolutions_of
from editgan.segmentation.ensemble import SegmentationEnsemble
from editgan.segmentation.pixels import full_feature_stack, pixel_sampler

CHANNELS = {64: (2048, 128), 256: (16384, 512), 512: (32768, 512)}  # size: (channel_base, channel_max)
FORWARD_ONLY = {512}
CLASSES, MEMBERS = 20, 10
REGION = 0.05  # share of pixels in the region of an edit
READ, EDIT = "read-out", f"edit step, region {REGION:.0%}"
PATHS = {READ: ("full", "projected"), EDIT: ("full", "projected", "region")}
REPEATS = 3  # the shortest time of these is reported


def setting(size: int) -> tuple[SegmentationEnsemble, list[Tensor], Tensor]:
    """(ensemble, feature maps of one image, pixels of a square region [P])."""
    torch.manual_seed(0)
    base, most = CHANNELS[size]
    channels = [channels_at(resolution, base, most) for resolution in resolutions_of(size) for _ in range(2)]
    ensemble = SegmentationEnsemble(feature_channels=channels, num_classes=CLASSES, members=MEMBERS)
    for weight in (ensemble.weight1, ensemble.weight2, ensemble.weight3):
        torch.nn.init.normal_(weight, std=0.1)
    features = [
        torch.randn(1, count, side, side).contiguous(memory_format=torch.channels_last)
        for count, side in zip(channels, map_sides(len(channels)), strict=True)
    ]
    edge, square = round(size * REGION**0.5), torch.zeros(size, size, dtype=torch.bool)
    square[size // 2 : size // 2 + edge, size // 2 - edge // 2 : size // 2 - edge // 2 + edge] = True
    return ensemble.eval().requires_grad_(False), features, square.flatten().nonzero()[:, 0]


def full_logits(ensemble: SegmentationEnsemble, features: list[Tensor], size: int) -> Tensor:
    """Mean logits of all pixels from the stack of all channels, member by member.  # [size * size, K]"""

    def normalised(hidden: Tensor, norm: torch.nn.BatchNorm1d, member: int) -> Tensor:
        known = (norm.running_mean, norm.running_var, norm.weight, norm.bias)
        mean, variance, weight, bias = (one.view(ensemble.members, -1)[member] for one in known)
        return F.batch_norm(hidden, mean, variance, weight, bias, training=False, eps=norm.eps)

    stack = full_feature_stack(features, size).flatten(2)[0].t()  # [size * size, sum C_k]
    total = torch.zeros(())
    for member in range(ensemble.members):
        hidden = F.relu(F.linear(stack, ensemble.weight1[member], ensemble.bias1[member]))
        hidden = normalised(hidden, ensemble.norm1, member)
        hidden = F.relu(F.linear(hidden, ensemble.weight2[member], ensemble.bias2[member]))
        hidden = normalised(hidden, ensemble.norm2, member)
        total = total + F.linear(hidden, ensemble.weight3[member], ensemble.bias3[member])
    return total / ensemble.members


def peak_memory() -> float:
    """MiB"""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(size: int, work: str, path: str) -> dict[str, object]:
    """Shortest time in seconds, peak memory beyond the inputs in MiB, and results, of one read-out or one edit step."""
    ensemble, features, pixels = setting(size)
    labels = torch.arange(len(pixels)) % CLASSES
    sampler = pixel_sampler(pixels, size, [feature.shape[-1] for feature in features]) if path == "region" else None
    readers: dict[str, Callable[[], Tensor]] = {
        "full": lambda: full_logits(ensemble, features, size)[pixels],
        "projected": lambda: ensemble.mean_logits(features, size)[0].flatten(1).t()[pixels],
        "region": lambda: ensemble.pixel_logits(features, sampler).mean(1),
    }
    if work == EDIT:
        features = [feature.requires_grad_() for feature in features]

    def once() -> Tensor:
        logits = readers[path]()  # [P, K]
        if work == READ:
            return logits.flatten()
        gradients = torch.autograd.grad(F.cross_entropy(logits, labels), features)
        return torch.cat([logits.detach().flatten(), *(one.flatten()[:1000] for one in gradients)])

    before = peak_memory()
    with torch.set_grad_enabled(work == EDIT):
        seconds, found = best_seconds(once, REPEATS)
    return dict(seconds=seconds, peak=peak_memory() - before, found=found[::37].tolist())


def main() -> None:
    parser = command_line(__doc__)
    parser.add_argument("--sizes", nargs="+", type=int, choices=list(CHANNELS), default=list(CHANNELS))
    parser.add_argument("--of", nargs=2, metavar=("WORK", "PATH"), help="measure only this; print JSON")
    options = parser.parse_args()
    if options.of:
        print(json.dumps(measure(options.sizes[0], *options.of)))
        return
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}, {MEMBERS} members, {CLASSES} classes")
    header("px", "work", "path", "s", "times faster", "peak MiB", "relative peak", "difference")
    for size in options.sizes:
        for work, paths in PATHS.items():
            if work == EDIT and size in FORWARD_ONLY:
                continue
            rows = [in_a_process(__file__, "--sizes", size, "--of", work, path) for path in paths]
            wanted, reference = torch.tensor(rows[0]["found"]), rows[0]
            for path, found in zip(paths, rows, strict=True):
                off = float((wanted - torch.tensor(found["found"])).abs().max() / wanted.abs().max())
                faster, less = reference["seconds"] / found["seconds"], found["peak"] / max(reference["peak"], 1)
                cells = f"{found['seconds']:.3f}", f"{faster:.1f}", f"{found['peak']:.0f}", f"{less:.2f}", f"{off:.0e}"
                row(size, work, path, *cells)


if __name__ == "__main__":
    main()
