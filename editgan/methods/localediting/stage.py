"""Stage `localediting`: cluster features, find the channels of the mouth, choose the reference and thresholds."""

from itertools import product

import torch
from torch import Tensor

from editgan.assets.load import load_network
from editgan.assets.networks.winograd import use_winograd
from editgan.data.archive import holds_masks, load_attributes, load_classes, load_images, load_masks
from editgan.data.paste import dilate
from editgan.data.protocol import load_protocol
from editgan.data.training import training_folder
from editgan.editing.masks import is_part
from editgan.encoder.encoder import load_encoder, load_latents
from editgan.encoder.inversion import invert
from editgan.errors import UserError
from editgan.generator.generator import Generator, load_generator
from editgan.images import to_float, to_uint8
from editgan.judges.load import load_guide
from editgan.judges.quality import SMILE_THRESHOLD
from editgan.methods.localediting.channels import (
    Contributions,
    channel_mask,
    clusters_of,
    part_clusters,
    spherical_kmeans,
    styles_of,
    swapped_styles,
)
from editgan.methods.smile import ROOM, at_rest, has_attribute, sample_latents
from editgan.metrics import outside_error
from editgan.runtime.stage import StageContext
from editgan.training import DIGITS, generator_for
from editgan.weights import save_tensors, write_json

BATCH = 50  # images at a time
CLUSTER_RESOLUTION = 32  # resolution of the clustered features, as in the paper
PIXELS = 400_000  # number of pixels that k-means samples from
CLUSTERS = 16  # of features
MAX_LEAK = 0.005  # squared error outside the mouth, images in [-1, 1], that the choice may cost validation heads


@torch.no_grad()
def run(context: StageContext) -> None:
    """Write channels.safetensors: the mouth's channels and the reference's styles for every convolution."""
    params, seed = context.params.localediting, context.params.seed
    G = load_generator(context.input("generator") / "G_ema.safetensors", context.device)
    resolution = min(CLUSTER_RESOLUTION, G.img_resolution)
    which = 2 * G.synthesis.block_resolutions.index(resolution) + 1  # the second map of this resolution
    latents = sample_latents(G, params.samples, generator_for(seed, "localediting", "z"), batch=BATCH)
    pixels = []
    for done, part in enumerate(latents.split(BATCH)):
        context.run.progress(done * BATCH, 2 * len(latents), "img", "features collected")
        pixels.append(directions(G.synthesis_features(part)[1][which]))
    pixels = torch.cat(pixels)
    generator = generator_for(seed, "localediting", "clusters")
    pixels = pixels[torch.randperm(len(pixels), generator=generator)[:PIXELS]]
    centres = spherical_kmeans(pixels, CLUSTERS, generator=generator).to(context.device)

    mouth = mouth_clusters(context, G, centres, which)
    contributions = Contributions()
    for done, part in enumerate(latents.split(BATCH)):
        context.run.progress(len(latents) + done * BATCH, 2 * len(latents), "img", "channels measured")
        _, maps = G.synthesis_features(part)
        assigned = clusters_of(maps[which], centres)
        contributions.add(maps[:-1], torch.isin(assigned, torch.tensor(mouth, device=assigned.device)))
    shares = [share.cpu() for share in contributions.shares()]
    references = smiling_references(context, G)
    (reference, rho, epsilon), figures = choose(context, G, shares, references)
    tensors = {}
    for index, style in enumerate(styles_of(G, references[reference][None])):
        tensors[f"q{index:02d}"] = channel_mask(shares[index], rho=rho, epsilon=epsilon).float()
        tensors[f"style{index:02d}"] = style[0].float().cpu()
    save_tensors(context.out / "channels.safetensors", tensors, {"kind": "style channels", "reference": reference})
    clusters = "clusters_of_the_mouth" if load_protocol(context.input("data")).faces else "clusters_of_the_parts"
    metrics = {clusters: len(mouth), "reference": reference, "rho": rho, "epsilon": epsilon}
    metrics["channels"] = sum(int(mask.sum()) for name, mask in tensors.items() if name.startswith("q"))
    write_json(context.out / "metrics.json", metrics | figures)
    context.run.log_metrics(metrics | figures)


def directions(features: Tensor) -> Tensor:
    """Feature maps [N, C, h, w] -> one unit vector per pixel, on the CPU.  # [N * h * w, C]"""
    return torch.nn.functional.normalize(features.float().permute(0, 2, 3, 1).flatten(0, 2), dim=1).cpu()


def mouth_clusters(context: StageContext, G: Generator, centres: Tensor, which: int) -> list[int]:
    """The clusters of the mouth, by their overlap with the masks of the labelled heads."""
    data = context.input("data")
    latents = load_latents(context.input("encoder") / "latents.safetensors")["few_shot"]
    latents = latents[: context.params.segmentation.labelled_images]
    _, maps = G.synthesis_features(latents.to(context.device))
    assigned = clusters_of(maps[which], centres).cpu()  # [N, h, h]
    classes = load_classes(data / "classes.json")
    masks = torch.as_tensor(load_masks(data / "pool.zip", range(len(latents))))
    step = masks.shape[-1] // assigned.shape[-1]
    parts = [classes.index(name) for name in load_protocol(data).parts]
    part = is_part(masks, parts)[:, step // 2 :: step, step // 2 :: step]
    return part_clusters(assigned, part, len(centres))


def smiling_references(context: StageContext, G: Generator) -> Tensor:
    """Embed smiling training heads, chosen at random with the seed.  # [K, num_ws, w_dim]"""
    params, data = context.params.localediting, training_folder(context)
    attributes = load_attributes(data / "train_labels.zip")
    protocol, threshold = load_protocol(context.input("data")), context.params.judges.smile_threshold
    smiling = [index for index, row in enumerate(attributes) if has_attribute(row, protocol, threshold)]
    if len(smiling) < params.references:
        what = "heads smile" if protocol.faces else f"pictures have {protocol.attribute} (from {protocol.high:g} on)"
        raise UserError(f"localediting.references {params.references}: only {len(smiling)} training {what}")
    order = torch.randperm(len(smiling), generator=generator_for(context.params.seed, "localediting", "references"))
    chosen = [smiling[index] for index in order[: params.references].tolist()]
    E = load_encoder(context.input("encoder") / "E.safetensors", context.device)
    lpips_vgg = use_winograd(load_network("lpips_vgg", context.input("assets"))).to(context.device)
    images = to_float(torch.as_tensor(load_images(data / "train.zip", chosen))).to(context.device)
    section = context.params.encoder
    with torch.enable_grad():
        return invert(G, E, lpips_vgg, images, steps=section.inversion_steps, lr=section.inversion_lr)


def choose(
    context: StageContext, G: Generator, shares: list[Tensor], references: Tensor
) -> tuple[tuple[int, float, float], dict[str, float]]:
    """Choose reference, rho and epsilon: most smiles by the guide on neutral validation heads, leak up to MAX_LEAK.

    Without such a choice, take the one with the lowest leak that swaps at least one channel.
    """
    params, data = context.params.localediting, context.input("data")
    guide = load_guide(context.input("judges")).to(context.device)
    val = load_latents(context.input("encoder") / "latents.safetensors")["val"]
    attributes = load_attributes(data / "val.zip")[: len(val)]
    protocol = load_protocol(data)
    neutral = [index for index, row in enumerate(attributes) if at_rest(row, protocol)]
    if not neutral:
        what = "heads is neutral" if protocol.faces else f"pictures is without {protocol.attribute}"
        raise UserError(f"localediting: none of the embedded validation {what}; raise encoder.val_images")
    w_plus = val[neutral].to(context.device)
    classes = load_classes(data / "classes.json")
    mouth_ids = [classes.index(name) for name in protocol.parts]
    if holds_masks(data / "val.zip"):
        mouth = is_part(torch.as_tensor(load_masks(data / "val.zip", neutral)), mouth_ids)
    else:  # union of the mouths of the labelled faces
        pool = torch.as_tensor(load_masks(data / "pool.zip", range(context.params.segmentation.labelled_images)))
        mouth = is_part(pool, mouth_ids).any(0).expand(len(neutral), -1, -1)
    region = dilate(mouth, max(1, mouth.shape[-1] // ROOM)).to(context.device)
    kept = to_float(to_uint8(G.synthesis(w_plus, noise_mode="const")))
    found, combinations = {}, list(product(range(len(references)), params.rho, params.epsilon))
    for done, (reference, rho, epsilon) in enumerate(combinations):
        context.run.progress(done, len(combinations), "choices", "tested on validation heads")
        q = [channel_mask(share, rho=rho, epsilon=epsilon) for share in shares]
        styles = [style[0] for style in styles_of(G, references[reference][None])]
        with swapped_styles(G, q, styles, 1.0):
            images = to_float(to_uint8(G.synthesis(w_plus, noise_mode="const")))
        smiling = float((guide.smile(images) >= SMILE_THRESHOLD).double().mean())
        leak = float(outside_error(images, kept, region).mean())
        found[reference, rho, epsilon] = (smiling, leak, sum(int(mask.sum()) for mask in q))
    within = {key: row for key, row in found.items() if row[1] <= MAX_LEAK and row[2]}
    if within:
        best = max(within, key=lambda key: (within[key][0], -within[key][1]))
    else:
        best = min(found, key=lambda key: (found[key][2] == 0, found[key][1]))
    smiling, leak, _ = found[best]
    return best, {
        f"{protocol.success}_guide_val{len(neutral)}": round(smiling, DIGITS),
        f"leak_val{len(neutral)}": round(leak, DIGITS),
    }
