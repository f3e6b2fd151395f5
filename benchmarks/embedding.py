"""Reconstruction quality and cost of each embedding method, with the trained models.

    python benchmarks/embedding.py [--heads 100] [--tuned 10] [--lrs 0.05 0.1] [--steps 0 10 30 100]
        [--pulls 0 0.05 1] [--identity 4]

The first row is the stored result of stage `encoder`, so `--split test --heads 400 --steps 0 --lrs 0.05 --tuned 0`
measures all test heads without embedding any. The reference is the encoder alone. The next rows are optimisation in W+
at each peak learning rate; at the last learning rate, other weights of the pull to the encoder's estimate and an
identity loss; and pivotal tuning. LPIPS-AlexNet and MobileFaceNet (identity) are not used in training. Tuning needs a
copy of the generator for each head, so it uses fewer heads; the other methods are also listed for these heads.
"""

import torch
from measuring import Trained, best_seconds, header, row, trained_command_line
from torch import Tensor
from torchmetrics.functional.image import structural_similarity_index_measure as ssim

from editgan.images import mean_squared_error, to_float


def main() -> None:
    parser = trained_command_line(__doc__)
    parser.add_argument("--split", choices=("val", "test"), default="val", help="val: to choose; test: to report")
    parser.add_argument("--heads", type=int, default=100)
    parser.add_argument("--lrs", nargs="+", type=float, default=[0.05, 0.1], help="peak learning rates")
    parser.add_argument("--steps", nargs="+", type=int, default=[0, 10, 30, 100], help="optimisation steps, 0 first")
    parser.add_argument("--pulls", nargs="*", type=float, default=[0.0, 0.05, 1.0], help="weights of the pull")
    parser.add_argument("--identity", type=float, default=4.0, help="weight of the identity loss; 0: omit this row")
    parser.add_argument("--tuned", type=int, default=10, help="number of heads to tune the generator for; 0: none")
    options = parser.parse_args()
    run = Trained(options)
    editor = run.editor
    photos = run.images(options.split, range(options.heads))

    def show(name: str, images: Tensor, seconds: float | None = None) -> None:
        some, x, y = photos[: len(images)], to_float(photos[: len(images)]), to_float(images)
        distance = run.lpips(some, images).mean()
        cells = f"{mean_squared_error(x, y).mean():.4f}", f"{distance:.3f}", f"{ssim(y, x, data_range=2.0):.3f}"
        milliseconds = "-" if seconds is None else f"{1000 * seconds / len(images):.0f}"
        row(name, len(images), *cells, f"{run.identity(some, images):.3f}", milliseconds)

    print(f"{options.split} heads, {torch.get_num_threads()} threads, torch {torch.__version__}")
    header("method", "heads", "L2", "LPIPS-Alex", "SSIM", "identity", "ms per head")
    show("latents of stage encoder", editor.render(run.latents(options.split)[: options.heads]))
    made = {}

    def embed(name: str, **how: float) -> None:
        seconds, made[name] = best_seconds(lambda: editor.set_image(photos, **how))
        show(name, made[name], seconds)

    for lr in options.lrs:
        for steps in options.steps:
            name = f"encoder, {steps} steps at {lr:g}" if steps else "encoder alone"
            if name not in made:
                embed(name, steps=steps, lr=lr)
    w_plus, most, lr = editor.w_plus, options.steps[-1], options.lrs[-1]
    for pull in options.pulls if most else []:
        embed(f"encoder, {most} steps at {lr:g}, pull {pull:g}", steps=most, lr=lr, pull=pull)
    if most and options.identity:
        name = f"encoder, {most} steps at {lr:g}, identity loss {options.identity:g}"
        embed(name, steps=most, lr=lr, identity_weight=options.identity)
    count = min(options.tuned, options.heads)
    if not count:
        return
    for name, images in made.items():
        show(name, images[:count])
    total, tuned = 0.0, []
    for index in range(count):
        editor.set_latents(w_plus[index : index + 1])
        editor.photos = photos[index : index + 1]
        seconds, images = best_seconds(lambda: editor.tune(steps=100))
        total, tuned = total + seconds, [*tuned, images]
    show("100 steps, then 100 steps of tuning, one head at a time", torch.cat(tuned), total)


if __name__ == "__main__":
    main()
