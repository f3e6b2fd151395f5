"""Short trainings of the generator with changed settings, compared at the same kimg.

    python benchmarks/generator_trials.py STATE.pt --until 96 'seed=1' 'projected_weight=0.5' 'projected_width=32'

Every trial resumes a training state, for example `work/generator/HASH/state.pt` at 80 kimg, with section `generator` of
`params.yaml`, some settings of which the trial changes; '' changes nothing. `seed` is the seed of the run. The learning
rates follow the schedule of the whole training. Two trials that differ only in the seed show the variance between
trainings. A changed `projected_width` needs a state from before `projected_from_kimg`.
Prints minutes, KID, precision and recall by VGG16 of each trial; its grid is TRIALS/NAME/out/snapshots/.
"""

import json
import shutil
import time
from pathlib import Path

import torch
import yaml
from measuring import command_line, header, row

from editgan.assets.load import load_network
from editgan.assets.networks.winograd import use_winograd
from editgan.config import Params, load_params
from editgan.generator.parallel import choose_processes, train_together
from editgan.generator.snapshots import Recorder
from editgan.generator.stage import read_images, train_helper, train_rank
from editgan.runtime.process import keep_freed_memory
from editgan.runtime.tracking import offline_run
from editgan.training import STATE_FILE, load_state, save_state


class Enough(Exception):
    """The trial has reached its last image."""


def changed(params: Params, trial: str) -> Params:
    """Params with the settings of a trial, in the form `key=value key=value`."""
    settings = {key: yaml.safe_load(value) for key, value in (part.split("=") for part in trial.split())}
    seed = settings.pop("seed", params.seed)
    generator = params.generator.model_copy(update=settings)
    return params.model_copy(update={"seed": seed, "generator": generator})


def begin(folder: Path, state: Path, params: Params) -> None:
    """Copy a state into the trial's folder. A projected discriminator of another width starts from scratch."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(state, folder / STATE_FILE)
    complete = load_state(folder)
    settings = json.loads(complete["settings"])
    if settings["projected_width"] != params.generator.projected_width:
        complete["settings"] = json.dumps(settings | {"projected_width": params.generator.projected_width})
        complete.pop("P", None)
        complete["optimizers"].pop("p", None)
    save_state(folder, complete)


def run_trial(params: Params, folder: Path, until: float, archive: Path, assets: Path) -> dict:
    """Train up to `until` kimg; returns the last line of the history, and the minutes."""
    images, device, run = read_images(archive, params.resolution), torch.device("cpu"), offline_run()
    progress, start = run.progress, time.monotonic()

    def progress_until(done: float, *rest) -> None:
        if done > until:
            raise Enough
        progress(done, *rest)

    run.progress = progress_until
    vgg = use_winograd(load_network("lpips_vgg", assets))
    recorder = Recorder(out=folder / "out", work=folder, run=run, lpips_vgg=vgg, reals=images, seed=params.seed,
                        kid_images=params.generator.kid_images, device=device)  # fmt: skip
    shared = (params.generator, params.resolution, params.seed, device.type, "float32", folder, None, None)
    world = choose_processes("auto", device=device, batch=params.generator.batch, group=params.generator.mbstd_group)
    try:
        train_together(
            lambda ranks: train_rank(ranks, *shared, images, assets, recorder),
            helper=train_helper, arguments=(*shared, archive, assets), world=world, device=device,
        )  # fmt: skip
    except Enough:
        pass
    return recorder.history[-1] | {"minutes": (time.monotonic() - start) / 60}


def main() -> None:
    parser = command_line(__doc__)
    parser.add_argument("state", type=Path, help="complete state of a training, state.pt")
    parser.add_argument("trials", nargs="+", help="settings of each trial: 'key=value key=value'; '': unchanged")
    parser.add_argument("--until", type=float, required=True, help="kimg at which a trial ends; a multiple of 16")
    parser.add_argument(
        "--training", type=Path, required=True, help=".cache/training/HASH, rendered by stage generator"
    )
    parser.add_argument("--assets", type=Path, default=Path("outputs/assets"))
    parser.add_argument("--out", type=Path, default=Path("trials"), help="folder of the trials")
    options = parser.parse_args()
    keep_freed_memory()
    torch.set_flush_denormal(True)
    params = load_params(Path("params.yaml"))
    header("trial", "kimg", "minutes", "kid1k_vgg16", "precision1k_vgg16", "recall1k_vgg16")
    for number, trial in enumerate(options.trials):
        own, folder = changed(params, trial), options.out / f"{number:02d}"
        begin(folder, options.state, own)
        last = run_trial(own, folder, options.until, options.training / "train.zip", options.assets)
        figures = (f"{last[name]:.3f}" for name in ("kid1k_vgg16", "precision1k_vgg16", "recall1k_vgg16"))
        row(trial or "recipe", f"{last['kimg']:g}", f"{last['minutes']:.1f}", *figures)


if __name__ == "__main__":
    main()
