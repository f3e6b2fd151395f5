"""Stage `interfacegan`: sample latents, score them with the guide, fit the smile hyperplane."""

import torch
from torch import Tensor

from editgan.data.archive import load_attributes, load_images
from editgan.data.training import training_folder
from editgan.encoder.encoder import load_encoder
from editgan.errors import UserError
from editgan.generator.generator import load_generator
from editgan.images import to_float, to_uint8
from editgan.judges.load import load_guide
from editgan.methods.interfacegan.direction import CONDITIONS, EXTREME, Boundary, conditional, find_boundary
from editgan.methods.smile import sample_latents
from editgan.runtime.stage import StageContext
from editgan.training import DIGITS, generator_for
from editgan.weights import save_tensors, write_json

BATCH = 50  # images at a time


def run(context: StageContext) -> None:
    """Write directions.safetensors: `smile`, and `smile_conditional`, which preserves other attributes."""
    params, seed = context.params.interfacegan, context.params.seed
    G = load_generator(context.input("generator") / "G_ema.safetensors", context.device)
    guide = load_guide(context.input("judges")).to(context.device)
    latents = sample_latents(G, params.samples, generator_for(seed, "interfacegan", "z"), batch=BATCH)
    scores, total = [], params.samples + params.condition_heads
    with torch.no_grad():
        for w_plus in latents.split(BATCH):
            images = to_float(to_uint8(G.synthesis(w_plus, noise_mode="const")))
            scores.append(guide(images).cpu())  # logits, because probabilities saturate
            context.run.progress(sum(map(len, scores)), total, "img", "scored by the guide")
    boundaries = {"smile": boundary(context, "smile", latents[:, 0].cpu(), torch.cat(scores))}
    boundaries |= condition_boundaries(context, total)

    smile = boundaries["smile"].normal
    others = torch.stack([found.normal for name, found in boundaries.items() if name != "smile"])  # [K, w_dim]
    directions = {"smile": smile, "smile_conditional": conditional(smile, others)}
    save_tensors(context.out / "directions.safetensors", directions, {"kind": "directions in W, of length 1"})
    metrics = {
        name: {"accuracy_val": round(found.accuracy, DIGITS), "accuracy_others": round(found.accuracy_others, DIGITS)}
        for name, found in boundaries.items()
    }
    for name, other in zip(list(boundaries)[1:], others, strict=True):
        metrics[name]["cosine_to_smile"] = round(float(smile @ other), DIGITS)
    write_json(context.out / "metrics.json", metrics)
    context.run.log_metrics({f"{name}/{key}": value for name, row in metrics.items() for key, value in row.items()})


def boundary(context: StageContext, name: str, w: Tensor, scores: Tensor, extreme: float = EXTREME) -> Boundary:
    """`find_boundary` with a user-facing error."""
    generator = generator_for(context.params.seed, "interfacegan", name)
    try:
        return find_boundary(w, scores, generator=generator, extreme=extreme)
    except ValueError as error:
        raise UserError(f"interfacegan, {name}: {error}; raise interfacegan.samples or condition_heads") from error


def known_conditions(attributes: list[dict]) -> list[str]:
    """The attributes of CONDITIONS that every picture has and that vary."""
    everywhere = [name for name in CONDITIONS if all(name in row for row in attributes)]
    return [name for name in everywhere if len({row[name] for row in attributes}) > 1]


def condition_boundaries(context: StageContext, total: int) -> dict[str, Boundary]:
    """Hyperplanes of the attributes to preserve, from training heads with known attributes, embedded by E."""
    data, count = training_folder(context), context.params.interfacegan.condition_heads
    attributes = load_attributes(data / "train_labels.zip")[:count]
    if len(attributes) < count:
        raise UserError(f"interfacegan.condition_heads {count}: there are {len(attributes)} training heads")
    known = known_conditions(attributes)
    if not known:
        raise UserError(
            f"{data / 'train_labels.zip'}: none of {', '.join(CONDITIONS)} is given for all training pictures and"
            " varies; the conditional direction preserves these: give at least one as a column (docs/data.md)"
        )
    if unknown := [name for name in CONDITIONS if name not in known]:
        print(f"the conditional direction does not preserve {', '.join(unknown)}: not known for the training pictures")
    E = load_encoder(context.input("encoder") / "E.safetensors", context.device)
    images, rows = torch.as_tensor(load_images(data / "train.zip", range(count))), []
    with torch.no_grad():
        for part in images.split(BATCH):
            rows.append(E(to_float(part).to(context.device)).mean(1).cpu())  # [B, w_dim]
            done = total - count + sum(map(len, rows))
            context.run.progress(done, total, "img", "embedded with known attributes")
    w = torch.cat(rows)
    scores = {name: torch.tensor([float(row[name]) for row in attributes]) for name in known}
    return {name: boundary(context, name, w, scores[name], extreme=0.1) for name in known}
