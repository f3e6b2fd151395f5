"""Milliseconds per image of the three editing modes, one image at a time and in a batch, with the trained models.

    python benchmarks/editing.py [--images 16]

The reference is one image at a time. The last column is the mean difference between the pictures of the batch and of
the reference.
"""

import torch
from measuring import Trained, best_seconds, header, row, trained_command_line
from torch import Tensor

from editgan.data.paste import dilate
from editgan.editing.vectors import apply_vector

EDIT = "smile"


def main() -> None:
    parser = trained_command_line(__doc__)
    parser.add_argument("--images", type=int, default=16, help="number of test heads in the batch")
    options = parser.parse_args()
    run = Trained(options)
    editor, vector = run.editor, run.editor.vectors[EDIT]
    all_latents, all_photos = run.latents("test")[: options.images], run.images("test", range(options.images))
    parts = editor.S.class_ids(vector.region_classes)

    def optimised() -> Tensor:
        masks = editor.segment()
        target = masks.clone()
        region = dilate(torch.isin(masks, torch.tensor(parts, dtype=masks.dtype)), 2)
        target[region] = parts[0]
        return editor.edit(target, region, steps=100).images

    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}, {editor.G.img_resolution} px")
    batch = f"ms per image, batch of {options.images}"
    header("mode", "ms per image, one at a time", batch, "times faster", "difference")
    modes = (  # name, function of photos, repeats, number of images measured one at a time
        ("vector alone", lambda _: editor.render(apply_vector(editor.w_plus, vector)), 3, options.images),
        ("vector, 30 steps of refinement", lambda _: editor.apply({EDIT: 1.0}, refine=30).images, 1, 4),
        ("optimisation, 100 steps", lambda _: optimised(), 1, 2),
        ("embedding, 100 steps", lambda photos: editor.set_image(photos, steps=100), 1, 4),
    )
    for name, work, repeats, alone in modes:
        times, pictures = [], []
        for some in (*(slice(i, i + 1) for i in range(min(alone, options.images))), slice(None)):
            editor.set_latents(all_latents[some])
            seconds, images = best_seconds(lambda some=some, work=work: work(all_photos[some]), repeats)
            times, pictures = [*times, 1000 * seconds / len(images)], [*pictures, images]
        *single, together = pictures
        one = sum(times[:-1]) / len(single)
        difference = (torch.cat(single).float() - together[: len(single)].float()).abs().mean()
        row(name, f"{one:.1f}", f"{times[-1]:.1f}", f"{one / times[-1]:.1f}", f"{difference:.2f} of 255")


if __name__ == "__main__":
    main()
