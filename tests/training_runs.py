"""What the tests of trainings share: a run that keeps what it is told, short intervals, a stand-in for LPIPS."""

import hashlib
import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import torch
import torch.nn.functional as F
from torch import nn

from editgan.training import Training
from editgan.training import train as train_to_the_end

INTERVALS = dict(status_kimg=0.008, state_kimg=0.024, snapshot_kimg=0.024)


class Killed(Exception):
    pass


class KeptRun:
    """Keeps every status but its speed; raises at the first one after `dies_after` images."""

    def __init__(self, dies_after: float = math.inf) -> None:
        self.dies_after, self.rows = dies_after, []

    def log_metrics(self, metrics, step) -> None:
        nimg = round(1000 * step)
        if nimg > self.dies_after:
            raise Killed
        self.rows.append({"nimg": nimg} | {name: value for name, value in metrics.items() if name != "img_per_s"})

    def progress(self, done, total, unit, message) -> None:
        assert 0 < done <= total


def train(training: Training, work, *, intervals=INTERVALS, dies_after=math.inf, **options) -> list[dict]:
    """`training.train` with short intervals; returns every status."""
    run = KeptRun(dies_after)
    train_to_the_end(replace(training, **intervals), run, work, **options)
    return run.rows


class StandInVgg(nn.Module):
    """What `vgg_features` asks of LPIPS, five maps, here of random convolutions; and a distance."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(5)
        self.weights = [torch.randn(4, 3, 3, 3, generator=generator) for _ in range(5)]
        self.model = SimpleNamespace(scaling_layer=lambda images: images, net=self.maps)

    def maps(self, images):
        return [F.conv2d(images, weight, padding=1).relu() for weight in self.weights]

    def forward(self, x, y):
        return (x - y).square().mean((1, 2, 3))


def digests(folder: Path) -> dict[str, str]:
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
