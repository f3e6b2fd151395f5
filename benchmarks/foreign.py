"""A generator of another program: import, embed, segment, edit and refine; seconds and peak memory of each part.

    python benchmarks/foreign.py [--side 256] [--steps 5] [--file FILE]

Without --file, a .pkl as of stylegan2-ada-pytorch with random weights (paper256 at 256 px, config F at 1024) is written
and imported, so speed and memory are those of a real model, and pictures mean nothing. Each part runs in a process of
its own, which reports its peak memory: the largest resident size of the process, and of a GPU the memory that torch
reserved. On a CPU, seconds are those of the processor, which do not count the time for other programs; on a GPU, of the
clock. Two pictures are labelled. The reference is the first row: reading the file.
"""

import argparse
import json
import pickle
import resource
import subprocess
import sys
import tempfile
import time
import types
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measuring import command_line, header, row
from PIL import Image
from torch import nn

from editgan.editing.vectors import EditingVector, apply_vector
from editgan.editor.editor import Editor
from editgan.editor.fewshot import learn_segmentation
from editgan.generator.foreign.files import import_generator
from editgan.generator.generator import Generator
from editgan.runtime.environment import PROJECT_ROOT
from editgan.training import device_named
from editgan.weights import save_tensors

PARTS = ("import", "load", "sample", "embed", "labels", "segment", "vector", "edit", "refine")
CLASSES = ("background", "skin", "nose", "hair")
LABELLED = 2
EDIT_STEPS = 2


class Saved:
    """A module that is pickled as NVIDIA's are: a call that names their function, with the module's state."""

    def __init__(self, module: nn.Module, **state: Any) -> None:
        self.state = {"_parameters": dict(module._parameters), "_buffers": dict(module._buffers), **state}
        self.state["_modules"] = {name: Saved(child) for name, child in module.named_children()}

    def __reduce__(self):
        meta = dict(type="class", version=6, module_src="", class_name="Generator", state=self.state)
        return sys.modules["torch_utils.persistence"]._reconstruct_persistent_obj, (meta,)


def _reconstruct_persistent_obj(meta: dict) -> None:
    """Stands for NVIDIA's function while the file is written; only its name gets into the file."""


def write_random(path: Path, side: int) -> None:
    """A .pkl of stylegan2-ada-pytorch with random weights, NVIDIA's sizes, and noise."""
    torch.manual_seed(0)
    base = 32768 if side >= 512 else 16384
    G = Generator(z_dim=512, w_dim=512, img_resolution=side, channel_base=base, channel_max=512, num_mapping_layers=8)
    with torch.no_grad():
        G.w_avg.copy_(0.1 * torch.randn(512))
        for name, strength in G.named_parameters():
            if name.endswith("noise_strength"):
                strength.fill_(0.1)
    given = dict(z_dim=512, c_dim=0, w_dim=512, img_resolution=side, img_channels=3, mapping_kwargs={"num_layers": 8})
    given["synthesis_kwargs"] = {"channel_base": base, "channel_max": 512, "num_fp16_res": 4, "conv_clamp": 256}
    _reconstruct_persistent_obj.__module__ = "torch_utils.persistence"
    for name in ("torch_utils", "torch_utils.persistence"):
        sys.modules[name] = types.ModuleType(name)
    sys.modules["torch_utils.persistence"]._reconstruct_persistent_obj = _reconstruct_persistent_obj
    path.write_bytes(pickle.dumps({"G_ema": Saved(G, _init_kwargs=given), "D": None}))


def labels(folder: Path, images: torch.Tensor) -> None:
    """Two samples with masks of boxes."""
    (folder / "images").mkdir(parents=True)
    (folder / "masks").mkdir()
    rows = [{"name": name, "colour": [60 * k, 20, 200 - 60 * k]} for k, name in enumerate(CLASSES)]
    (folder / "classes.json").write_text(json.dumps(rows))
    side = images.shape[-1]
    mask = np.ones((side, side), np.uint8)
    mask[: side // 8], mask[side // 3 : side // 2, side * 2 // 5 : side * 3 // 5] = 3, 2
    for index, image in enumerate(images):
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(folder / "images" / f"{index}.png")
        Image.fromarray(mask).save(folder / "masks" / f"{index}.png")


def work(part: str, folder: Path, steps: int, members: int, device: str) -> tuple[float, str]:
    """Do one part in this process; returns its seconds and what was done."""
    outputs, given = folder / "run" / "outputs", folder / "labels"
    now = time.perf_counter if device_named(device).type == "cuda" else time.process_time
    started = now()
    if part == "import":
        done = import_generator(folder / "file", outputs)
        return now() - started, done.lines[0]
    editor = Editor.load(outputs, device)
    if part == "load":
        return now() - started, "generator and LPIPS"
    started = now()
    if part == "sample":
        images = editor.sample(list(range(1, LABELLED + 1)))
        seconds = now() - started
        labels(given, images)
        for index, w_plus in enumerate(editor.w_plus.cpu()):
            save_tensors(given / "images" / f"{index}.safetensors", {"w_plus": w_plus[None]})
        return seconds / LABELLED, "a picture"
    if part == "embed":
        picture = torch.from_numpy(np.array(Image.open(given / "images" / "0.png"))).permute(2, 0, 1)
        editor.set_image(picture, steps=steps)
        return (now() - started) / (steps + 1), f"a step of {steps}; 500 are usual"
    if part == "labels":
        learn_segmentation(editor, given, outputs, members=members, epochs=1)
        return now() - started, f"segmentation from {LABELLED} masks, {members} members, one pass"
    editor.set_latents(torch.randn(1, editor.G.num_ws, editor.G.w_dim) * 0.1)
    started = now()
    masks = editor.segment()
    if part == "segment":
        return now() - started, f"a picture and its mask, {members} members"
    delta = 0.1 * torch.randn(editor.G.num_ws, editor.G.w_dim)
    editor.vectors["nose"] = EditingVector("nose", ("nose",), "random", delta)
    started = now()
    if part == "vector":
        editor.render(apply_vector(editor.w_plus, editor.vectors["nose"]))
        return now() - started, "a vector applied"
    steps = EDIT_STEPS
    if part == "edit":
        painted, side = masks.clone(), masks.shape[-1]
        painted[:, side // 2 : side * 5 // 8, side * 2 // 5 : side * 3 // 5] = 2
        painted[:, : side // 8] = 3
        editor.edit(painted, steps=steps)
    else:
        editor.apply({"nose": 1.0}, refine=steps)
    return (now() - started) / (steps + 1), f"a step of {steps}, with the masks before and after"


def main() -> None:
    parser = command_line(__doc__)
    parser.add_argument("--side", type=int, default=256, help="resolution of the random generator")
    parser.add_argument("--steps", type=int, default=5, help="steps of embedding")
    parser.add_argument("--members", type=int, default=10, help="members of the segmentation")
    parser.add_argument("--file", type=Path, help="a file to import instead of the random one")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.part:
        seconds, done = work(options.part, options.folder, options.steps, options.members, options.device)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        gpu = torch.cuda.max_memory_reserved() / 2**30 if torch.cuda.is_available() else None
        print(json.dumps({"seconds": seconds, "done": done, "GiB": peak, "GPU GiB": gpu}))
        return
    print(f"{options.side} px, {torch.get_num_threads()} threads, torch {torch.__version__}, device {options.device}")
    header("part", "what", "seconds", "peak GiB", "GPU GiB")
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        if options.file is None:
            write_random(folder / "file", options.side)
        else:
            (folder / "file").symlink_to(options.file.resolve())
        for part in PARTS:
            again = ["--part", part, "--folder", str(folder), "--device", options.device]
            again += ["--steps", str(options.steps), "--members", str(options.members)]
            command = [sys.executable, str(Path(__file__).resolve()), *again]
            done = subprocess.run(command, cwd=PROJECT_ROOT, capture_output=True, text=True)
            if done.returncode:
                sys.exit(done.stderr)
            found = json.loads(done.stdout.splitlines()[-1])
            gpu = "-" if found["GPU GiB"] is None else f"{found['GPU GiB']:.1f}"
            row(part, found["done"], f"{found['seconds']:.3f}", f"{found['GiB']:.1f}", gpu)


if __name__ == "__main__":
    main()
