"""Images per second of StyleGAN2's full training step, compared with a plain implementation in the same run.

    python benchmarks/plain_path.py [--resolutions 32 64 128] [--steps 32]

Both run the loop of the adversarial phase (G, D, lazy R1 and path length, EMA) on the same images and random streams.
The plain path computes like the published PyTorch implementations on a CPU: float32, contiguous layout, a grouped
convolution with one kernel per sample, and separate operations for zero insertion, filtering and subsampling. Each
measurement uses a separate process, so peak memory is per measurement. The last columns compare the arithmetic rate
with that of a single convolution, measured in the same run.
"""

import argparse
import contextlib
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

import editgan.generator.generator as generator_module
import editgan.generator.layers as layers
import editgan.generator.train as train_module
from editgan.config import load_params
from editgan.generator.generator import Generator
from editgan.runtime.environment import PROJECT_ROOT
from editgan.runtime.tracking import Run
from editgan.training import count_parameters, seed_everything

CHANNELS = {  # resolution: (channel_base of G, of D, channel_max), about 1.4 million parameters each
    32: (2080, 3328, 136),
    64: (2048, 3584, 128),
    128: (2560, 5120, 120),
}
BATCH = 16
WARM_STEPS = 16  # one interval of the path length, which comes most rarely
PATHS = ("plain", "editgan")


def plain_resample(x: Tensor, *, up: int = 1, down: int = 1, padding: tuple[int, int], gain: float = 1.0) -> Tensor:
    """Zero insertion, padding (before, after), FIR filter, subsampling: four operations."""
    count, channels, height, width = x.shape
    if up > 1:
        x = F.pad(x.reshape(count, channels, height, 1, width, 1), [0, up - 1, 0, 0, 0, up - 1])
        x = x.reshape(count, channels, height * up, width * up)
    x = F.pad(x, [padding[0], padding[1], padding[0], padding[1]])
    x = F.conv2d(x, layers.fir_kernel(gain=gain, like=x), groups=channels)
    return x[:, :, ::down, ::down]


def plain_blur(x: Tensor, *, padding: int, gain: float = 1.0) -> Tensor:
    return plain_resample(x, padding=(padding, padding), gain=gain)


def plain_upsample(x: Tensor) -> Tensor:
    return plain_resample(x, up=2, padding=(2, 1), gain=4.0)


def plain_downsample(x: Tensor) -> Tensor:
    return plain_resample(x, down=2, padding=(1, 1))


def plain_modulated_conv2d(
    x: Tensor, weight: Tensor, styles: Tensor, *, upsample: bool = False, demodulate: bool = True, gain: float = 1.0
) -> Tensor:
    """One kernel a sample, all samples in one grouped convolution (StyleGAN2, section 2.2)."""
    count, in_channels, height, width = x.shape
    out_channels, _, size, _ = weight.shape
    kernels = weight.unsqueeze(0) * styles[:, None, :, None, None]  # [N, O, I, k, k]
    if demodulate:
        kernels = kernels * torch.rsqrt(kernels.square().sum(dim=(2, 3, 4), keepdim=True) + 1e-8)
    x = x.reshape(1, count * in_channels, height, width)
    if upsample:
        kernels = kernels.transpose(1, 2).reshape(count * in_channels, out_channels, size, size)
        x = F.conv_transpose2d(x, kernels, stride=2, groups=count)
    else:
        kernels = kernels.reshape(count * out_channels, in_channels, size, size)
        x = F.conv2d(x, kernels, padding=size // 2, groups=count)
    x = x.reshape(count, out_channels, *x.shape[2:])
    if upsample:
        x = plain_blur(x, padding=1, gain=4.0)
    return x * gain


@contextlib.contextmanager
def plain_path() -> Iterator[None]:
    """Within it, networks that are built and run compute on the plain path."""
    with contextlib.ExitStack() as stack:
        for module, name, replacement in (
            (layers, "fir_blur", plain_blur),
            (layers, "fir_downsample", plain_downsample),
            (generator_module, "fir_upsample", plain_upsample),
            (generator_module, "modulated_conv2d", plain_modulated_conv2d),
            (train_module, "mixed_precision", lambda device: torch.autocast(device.type, enabled=False)),
            (torch, "channels_last", torch.contiguous_format),
        ):
            stack.enter_context(mock.patch.object(module, name, replacement))
        yield


def backward_flop(gradient: Tensor, x: Tensor, weight: Tensor, *options: object) -> int:
    """FLOP of a convolution's gradients: each costs what the convolution did, for every sample's own group as well."""
    transposed, wanted = options[4], options[7]
    places = x if transposed else gradient
    return 2 * len(places) * places.shape[2] * places.shape[3] * weight.numel() * sum(wanted[:2])


class FlopCounter(TorchDispatchMode):
    """Adds up the arithmetic of convolutions and products.

    Torch's own counter fails where gradients have gradients, and counts the weights' gradient of a grouped convolution
    as if it had one group.
    """

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def __torch_dispatch__(self, operation, types, arguments=(), options=None):
        result = operation(*arguments, **(options or {}))
        count = flop_registry.get(operation._overloadpacket)
        if operation is torch.ops.aten.convolution_backward.default:
            self.total += backward_flop(*arguments)
        elif count is not None:
            self.total += count(*arguments, **(options or {}), out_val=result)
        return result


class Clock(Run):
    """Notes when each step ended."""

    def __init__(self) -> None:
        super().__init__(name="benchmark")
        self.times: list[float] = []

    def progress(self, done: float, total: float, unit: str, message: str = "") -> None:
        self.times.append(time.perf_counter())


class Statistics:
    """Keeps what the loop reports, and writes nothing."""

    def __init__(self) -> None:
        self.history: list[dict[str, float]] = []

    def tick(self, phase: str, cur_nimg: int, stats: dict[str, float]) -> None:
        self.history.append(stats)

    def snapshot(self, generator: Generator, cur_nimg: int) -> dict[str, float]:
        return {}


def measure(resolution: int, steps: int) -> dict[str, object]:
    """Run the loop: img/s over `steps` after the warm ones, losses of the warm ones, FLOP an image, memory, sizes."""
    g_base, d_base, channel_max = CHANNELS[resolution]
    params = load_params(PROJECT_ROOT / "params.yaml").generator
    params = params.model_copy(
        update=dict(
            channel_base=g_base, d_channel_base=d_base, channel_max=channel_max, batch=BATCH, anchor_images=0,
            warm_start=params.warm_start.model_copy(update={"kimg": ()}), d_first_kimg=0.0,
            status_kimg=WARM_STEPS * BATCH / 1000, state_kimg=1e6, snapshot_kimg=1e6,
        )
    )  # fmt: skip

    def run(count: int) -> tuple[Clock, Statistics, float, float]:
        seed_everything(0, "benchmark")
        generator = Generator(
            z_dim=params.w_dim, w_dim=params.w_dim, img_resolution=resolution, channel_base=g_base,
            channel_max=channel_max, num_mapping_layers=params.num_mapping_layers,
        ).to(memory_format=torch.channels_last)  # fmt: skip
        clock, statistics = Clock(), Statistics()
        with tempfile.TemporaryDirectory() as work:
            task = train_module.Task(
                params=params.model_copy(update={"kimg": count * BATCH / 1000}), resolution=resolution, seed=0,
                images=torch.randint(0, 256, (256, 3, resolution, resolution), dtype=torch.uint8), lpips_vgg=None,
                code=torch.nn.Identity(), bands=torch.nn.Identity(), device=torch.device("cpu"), work=Path(work),
                recorder=statistics, run=clock, compile=lambda module: module,
            )  # fmt: skip
            _, discriminator = train_module.adversarial(task, generator, {})
        return clock, statistics, count_parameters(generator) / 1e6, count_parameters(discriminator) / 1e6

    clock, statistics, g_size, d_size = run(WARM_STEPS + steps)
    seconds = clock.times[-1] - clock.times[WARM_STEPS - 1]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # MiB
    with FlopCounter() as counter:
        run(WARM_STEPS)
    return dict(
        rate=steps * BATCH / seconds, losses=statistics.history[0], peak=peak, g_size=g_size, d_size=d_size,
        flop=counter.total / (WARM_STEPS * BATCH),
    )  # fmt: skip


def convolution_rate(dtype: torch.dtype) -> float:
    """FLOP a second of a 3x3 convolution, 128 to 128 channels, on 16 maps of 32x32, channels-last."""
    x = torch.randn(16, 128, 32, 32, dtype=dtype).contiguous(memory_format=torch.channels_last)
    weight = torch.randn(128, 128, 3, 3, dtype=dtype).contiguous(memory_format=torch.channels_last)
    best = float("inf")
    for _ in range(12):
        start = time.perf_counter()
        F.conv2d(x, weight, padding=1)
        best = min(best, time.perf_counter() - start)
    return 2 * x.numel() * 128 * 9 / best


def in_a_process(path: str, resolution: int, steps: int) -> dict[str, object]:
    """`measure` in a process of its own."""
    command = [sys.executable, __file__, "--path", path, "--resolutions", str(resolution), "--steps", str(steps)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--resolutions", nargs="+", type=int, choices=list(CHANNELS), default=list(CHANNELS))
    parser.add_argument("--steps", type=int, default=32, help="measured steps, after 16 warm ones")
    parser.add_argument("--path", choices=PATHS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.path:
        with plain_path() if options.path == "plain" else contextlib.nullcontext():
            print(json.dumps(measure(options.resolutions[0], options.steps)))
        return
    rates = {name: convolution_rate(dtype) for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16))}
    print(f"batch {BATCH}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    print("one convolution: " + ", ".join(f"{name} {rate / 1e9:.0f} GFLOP/s" for name, rate in rates.items()))
    print("\n| px | path | G, D (M) | img/s | ratio | GFLOP/img | of fp32 | of bf16 | peak MiB | losses differ by |")
    print("|---:|---|---|---:|---:|---:|---:|---:|---:|---:|")
    for resolution in options.resolutions:
        first = None
        for path in PATHS:
            found = in_a_process(path, resolution, options.steps)
            first = first or found
            shares = [found["rate"] * found["flop"] / rate for rate in rates.values()]
            losses = [(found["losses"][name], value) for name, value in first["losses"].items()]
            difference = max(abs(a - b) / max(abs(b), 1e-6) for a, b in losses)
            cells = (
                resolution, path, f"{found['g_size']:.2f}, {found['d_size']:.2f}", f"{found['rate']:.1f}",
                f"{found['rate'] / first['rate']:.2f}", f"{found['flop'] / 1e9:.2f}",
                *(f"{share:.0%}" for share in shares), f"{found['peak']:.0f}", f"{difference:.1e}",
            )  # fmt: skip
            print("| " + " | ".join(str(cell) for cell in cells) + " |", flush=True)


if __name__ == "__main__":
    main()
