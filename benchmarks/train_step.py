"""Images per second of the generator's training step, compared with plain implementations in the same run.

    python benchmarks/train_step.py [--steps 24]

The step is that of params.yaml with the projected discriminator. The plain step computes every loss with separate
forward passes, in one process with one thread per core, and allocates new memory for every tensor. Ours computes the
same losses with one forward pass of each discriminator, keeps freed memory, and runs one process per core with one
thread each. Each row changes one thing. Images are random numbers.
"""

import json
import os
import tempfile
import time
from pathlib import Path

import torch
from measuring import command_line, header, in_a_process, row
from torch import Tensor

from editgan.assets.load import load_network
from editgan.config import load_params
from editgan.generator import losses
from editgan.generator.parallel import Ranks, train_together
from editgan.generator.params import GeneratorParams
from editgan.generator.projected_discriminator import diffaugment
from editgan.generator.train import FINITE_STEP, build_networks, train
from editgan.images import to_float
from editgan.runtime.environment import PROJECT_ROOT
from editgan.runtime.process import keep_freed_memory
from editgan.training import ADAM_BETAS

CPU = torch.device("cpu")
RESOLUTION = 64
WARM_STEPS = 4
PLAIN, SHARED, KEPT, PROCESSES = "plain step", "+ shared forward passes", "+ freed memory kept", "+ process per core"


def random_images() -> Tensor:
    return torch.randint(0, 256, (512, 3, RESOLUTION, RESOLUTION), dtype=torch.uint8)


def settings(steps: int) -> GeneratorParams:
    params = load_params(PROJECT_ROOT / "params.yaml").generator
    kimg = (WARM_STEPS + steps) * params.batch / 1000
    rare = {name: 1e6 for name in ("status_kimg", "snapshot_kimg", "state_kimg")}
    return params.model_copy(update={"kimg": kimg, "projected_from_kimg": 0.0, **rare})


class Recorder:
    """Stores the time of every step, and writes nothing."""

    kid_name = "kid"

    def __init__(self) -> None:
        self.run, self.times, self.history = self, [], []

    def progress(self, *_) -> None:
        self.times.append(time.perf_counter())

    def grid(self, *_) -> None:
        pass

    def tick(self, *_) -> None:
        pass

    def snapshot(self, *_) -> dict[str, float]:
        return {self.kid_name: 0.0}


def ours(ranks: Ranks, steps: int, recorder: Recorder | None = None) -> None:
    torch.set_flush_denormal(True)
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        train(
            ranks, params=settings(steps), resolution=RESOLUTION, seed=0, images=random_images(),
            backbone=load_network("efflite1"), device=CPU, precision="float32", folder=Path(folder), recorder=recorder,
        )  # fmt: skip


def plain(steps: int, recorder: Recorder) -> None:
    """The recipe in its textbook form: each loss of G, D and the projected discriminator has its own forward passes."""
    params, images = settings(steps), random_images()
    nets = build_networks(params, RESOLUTION, 0, load_network("efflite1"), images, CPU)
    G, D, P, batch = nets.G, nets.D, nets.P, params.batch
    adams = [torch.optim.Adam(net.parameters(), lr=params.g_lr, betas=ADAM_BETAS) for net in (G, D, P.heads)]

    def update(network: torch.nn.Module, adam: torch.optim.Adam, loss: Tensor) -> None:
        adam.zero_grad(set_to_none=True)
        loss.backward(inputs=list(network.parameters()))
        adam.step()

    for step in range(WARM_STEPS + steps):
        real = to_float(images[torch.randint(len(images), (batch,))]).contiguous(memory_format=torch.channels_last)
        z, cutoff = losses.draw_latents(G, batch, params.style_mixing_prob)
        fake = G.synthesis(losses.mixed_ws(G, z, cutoff), "none")
        with torch.no_grad():
            logits = D(real)
        loss = losses.relativistic_generator_loss(logits, D(fake))
        loss = loss + losses.hinge_generator_loss(P(diffaugment(fake, torch.rand(batch, 5))))
        update(G, adams[0], loss)
        fake = fake.detach()
        with torch.no_grad():
            features = [P.features(diffaugment(x, torch.rand(batch, 5))) for x in (real, fake)]
        update(P.heads, adams[2], losses.hinge_discriminator_loss(*(P.logits(x) for x in features)))
        logits = [D(real), D(fake)]
        loss = losses.relativistic_discriminator_loss(*logits)
        if step % params.r1_interval == 0:
            for x, known in zip((real, fake), logits, strict=True):
                moved = D(x + FINITE_STEP * torch.randn_like(x))
                penalty = losses.finite_difference_penalty(moved, known, FINITE_STEP)
                loss = loss + penalty * params.r1_gamma / 2 * params.r1_interval
        update(D, adams[1], loss)
        with torch.no_grad():
            for slow, fast in zip(nets.G_ema.parameters(), G.parameters(), strict=True):
                slow.lerp_(fast, 0.01)
        recorder.progress()


def measure(name: str, steps: int) -> float:
    """Images per second after the warm-up steps."""
    cores, recorder = len(os.sched_getaffinity(0)), Recorder()
    torch.set_num_threads(cores)
    if name in (KEPT, PROCESSES):
        keep_freed_memory()
    if name == PLAIN:
        plain(steps, recorder)
    else:
        world = cores if name == PROCESSES else 1
        train_together(
            lambda ranks: ours(ranks, steps, recorder), helper=ours, arguments=(steps,), world=world, device=CPU
        )
    return steps * settings(steps).batch / (recorder.times[-1] - recorder.times[WARM_STEPS - 1])


def main() -> None:
    parser = command_line(__doc__)
    parser.add_argument("--steps", type=int, default=24, help=f"measured steps, after {WARM_STEPS} warm-up steps")
    parser.add_argument("--row", help="measure only this; print JSON")
    options = parser.parse_args()
    if options.row:
        print(json.dumps(measure(options.row, options.steps)))
        return
    print(f"{len(os.sched_getaffinity(0))} cores, torch {torch.__version__}, load {os.getloadavg()[0]:.1f}")
    header("", "images per second", "ratio")
    first = None
    for name in (PLAIN, SHARED, KEPT, PROCESSES):
        speed = in_a_process(__file__, "--row", name, "--steps", options.steps)
        first = first or speed
        row(name, f"{speed:.1f}", f"{speed / first:.2f}")


if __name__ == "__main__":
    main()
