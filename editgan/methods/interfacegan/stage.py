"""Stage `interfacegan`: sample latents, score them with the guide, fit the smile hyperplane."""

from collections.abc import Sequence

import torch
from torch import Tensor

from editgan.data.archive import load_attributes, load_images
from editgan.data.protocol import SMILE, Protocol, load_protocol
from editgan.data.training import training_folder
from editgan.encoder.encoder import load_encoder
from editgan.errors import UserError
from editgan.generator.generator import load_generator
from editgan.images import to_float, to_uint8
from editgan.judges.load import load_guide
from editgan.methods.interfacegan.direction import EXTREME, Boundary, conditional, find_boundary
from editgan.methods.smile import sample_latents
from editgan.runtime.stage import StageContext
from editgan.training import DIGITS, generator_for
from editgan.weights import save_tensors, write_json

BATCH = 50  # images at a time


def run(context: StageContext) -> None:
    """Write directions.safetensors: `smile`, and `smile_conditional`, which preserves other attributes.

    Of other classes the directions are named by the attribute of their benchmark.
    """
    protocol = load_protocol(context.input("data"))
    name = protocol.attribute
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
    conditions = condition_boundaries(context, protocol, total)
    boundaries = {name: boundary(context, name, latents[:, 0].cpu(), torch.cat(scores)), **conditions}

    normal = boundaries[name].normal
    others = torch.stack([found.normal for found in conditions.values()]) if conditions else normal[None][:0]
    directions = {name: normal, f"{name}_conditional": conditional(normal, others)}
    save_tensors(context.out / "directions.safetensors", directions, {"kind": "directions in W, of length 1"})
    metrics = {
        one: {"accuracy_val": round(found.accuracy, DIGITS), "accuracy_others": round(found.accuracy_others, DIGITS)}
        for one, found in boundaries.items()
    }
    for one, other in zip(conditions, others, strict=True):
        metrics[one][f"cosine_to_{name}"] = round(float(normal @ other), DIGITS)
    write_json(context.out / "metrics.json", metrics)
    context.run.log_metrics({f"{one}/{key}": value for one, row in metrics.items() for key, value in row.items()})


def boundary(context: StageContext, name: str, w: Tensor, scores: Tensor, extreme: float = EXTREME) -> Boundary:
    """`find_boundary` with a user-facing error."""
    generator = generator_for(context.params.seed, "interfacegan", name)
    try:
        return find_boundary(w, scores, generator=generator, extreme=extreme)
    except ValueError as error:
        raise UserError(f"interfacegan, {name}: {error}; raise interfacegan.samples or condition_heads") from error


def known_conditions(attributes: list[dict], conditions: Sequence[str] = SMILE.conditions) -> list[str]:
    """The conditions that every picture has and that vary."""
    everywhere = [name for name in conditions if all(name in row for row in attributes)]
    return [name for name in everywhere if len({row[name] for row in attributes}) > 1]


def condition_boundaries(context: StageContext, protocol: Protocol, total: int) -> dict[str, Boundary]:
    """Hyperplanes of the attributes to preserve, from training heads with known attributes, embedded by E."""
    if not protocol.conditions:
        return {}
    data, count = training_folder(context), context.params.interfacegan.condition_heads
    attributes = load_attributes(data / "train_labels.zip")[:count]
    if len(attributes) < count:
        raise UserError(f"interfacegan.condition_heads {count}: there are {len(attributes)} training heads")
    known = known_conditions(attributes, protocol.conditions)
    if not known:
        raise UserError(
            f"{data / 'train_labels.zip'}: none of {', '.join(protocol.conditions)} is given for all training"
            " pictures and varies; the conditional direction preserves these: give at least one as a column"
            " (docs/data.md)"
        )
    if unknown := [name for name in protocol.conditions if name not in known]:
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
