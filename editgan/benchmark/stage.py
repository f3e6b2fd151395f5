"""Stage `benchmark`: edits the test heads by every method, lets the judges look, writes the table."""

import contextlib
import json
import platform
import time

import torch
import yaml
from PIL import Image
from torch import Tensor

from editgan.benchmark.baselines.distillation import smile
from editgan.benchmark.baselines.maskgan import MaskGAN, edit, smile_masks
from editgan.benchmark.baselines.pix2pixhd import GlobalGenerator
from editgan.benchmark.envelope import bootstrap_areas
from editgan.benchmark.latex import latex_table
from editgan.benchmark.methods import INTERFACEGAN, LOCALEDITING, PLUS, Method, Renderer, load_methods
from editgan.benchmark.page import curves_png, html_report, training_png
from editgan.benchmark.report import Setting, grid, pasted, plain, report
from editgan.benchmark.scores import (
    Scores,
    different_people_cosine,
    measure_reference,
    score_embedding,
    score_row,
)
from editgan.benchmark.smile import (
    DISTILLATION,
    EDITGAN,
    FROM_PHOTOS,
    INPUT,
    MASKGAN,
    PASTED,
    RECONSTRUCTION,
    TRULY_SMILING,
    SmileHeads,
    load_heads,
    refined_name,
)
from editgan.benchmark.titles import title_of
from editgan.benchmark.workers import YardstickFiles, measure_rows
from editgan.data.archive import load_classes, load_images, load_masks
from editgan.editing.masks import MOUTH
from editgan.encoder.encoder import load_latents
from editgan.errors import UserError
from editgan.images import colourize, read_mask, save_png
from editgan.judges import SMILE_JUDGES
from editgan.judges.quality import SMILE_THRESHOLD
from editgan.metrics import check_packages
from editgan.segmentation.ensemble import SegmentationEnsemble
from editgan.segmentation.metrics import segmentation_scores
from editgan.segmentation.predict import predict_masks
from editgan.stage import StageContext
from editgan.tracking import git_tags
from editgan.weights import load_module, load_tensors, save_tensors, write_bytes, write_json

DIGITS = {"fid": 3}  # decimals written: beyond them lies the rounding of a matrix square root
OTHER_DIGITS = 6
OTHERS = (INTERFACEGAN, LOCALEDITING, DISTILLATION, MASKGAN)  # methods with a stage of their own
VALIDATED = {DISTILLATION: "val_l1", MASKGAN: "val_lpips"}  # what the report draws of their training


def run(context: StageContext) -> None:
    """Make the rows of the tables, measure them, write figures, tables, pictures and the report."""
    params, seed = context.params.benchmark, context.params.seed
    sweep = context.params.sweep
    vectors, methods, renderer = load_methods(
        context.root / "outputs",
        vector=sweep.vector,
        plus=sweep.plus_vector,
        batch=sweep.batch,
        device=context.device,
    )
    heads = load_heads(context.input("data"))
    chosen = json.loads((context.input("sweep") / "metrics.json").read_text())["chosen"]
    strengths = {name: chosen[name]["strength"] for name in methods}
    rows, masks = make_rows(context, renderer, heads, methods, strengths)

    files = YardstickFiles(
        assets=context.input("assets"), judges=context.input("judges"), params=context.params.assets, batch=params.batch
    )
    yardsticks = files.load(context.device)
    photos, reconstructions = validation_heads(context, renderer)
    embedding = score_embedding(photos, reconstructions, yardsticks)
    options = dict(kid_subsets=params.kid_subsets, seed=seed)
    reference = torch.as_tensor(load_images(context.input("data") / "reference.zip"))
    references = measure_reference(reference, yardsticks, heads=len(heads.photos), **options)
    measured = measure_rows(
        rows,
        heads.smiling,
        files,
        device=context.device,
        on_row=lambda done: context.run.progress(done, len(rows), "rows", "judging"),
    )
    for name, known in references.items():
        check_packages(measured[RECONSTRUCTION].features[name], known.features, seed=seed)
    options["bootstrap"] = params.bootstrap
    scores = {}
    for done, name in enumerate(rows):
        context.run.progress(done, len(rows), "rows", f"scoring {name}")
        scores[name] = score_row(name, measured, heads, references, **options)
        if name in masks and heads.smiling_masks is not None:
            scores[name].values["mouth_iou_segmentation"] = mouth_iou(masks[name], heads.smiling_masks, renderer.S)
    seen = segmentation_accuracy(masks[RECONSTRUCTION], heads.masks)
    scores[RECONSTRUCTION].add("segmentation_accuracy", seen, resamples=params.bootstrap, seed=seed)

    strangers = {
        name: different_people_cosine(features, heads.identities) for name, features in measured[INPUT].identity.items()
    }
    refined = refined_name(context.params.editing.refine.steps)
    setting = Setting(
        heads=len(heads.photos),
        val_heads=len(photos),
        reference_heads=len(next(iter(references.values())).features),
        vector=vectors[EDITGAN].name,
        source=vectors[EDITGAN].source,
        plus_source=vectors[PLUS].source,
        masks=context.params.segmentation.labelled_images,
        edit_steps=context.params.editing.edit.steps,
        strengths=strengths,
        chosen_on=next(int(key.rpartition("val")[2]) for key in chosen[EDITGAN] if key.startswith("smiling_")),
        refine_steps=context.params.editing.refine.steps,
        feature_networks=tuple(yardsticks.features),
        identity_networks=tuple(yardsticks.identity),
        given={name: getattr(context.params, name).model_dump() for name in OTHERS},
        trained={name: found for name, found in measured_training(context).items() if name in rows},
        different_people=strangers,
        kid_subsets=params.kid_subsets,
        bootstrap=params.bootstrap,
        rendered=context.params.data.source == "heads",
        truth=heads.smiling is not None,
    )
    worst = measured[refined].smile[:, 0].argsort(stable=True)[: params.grid_heads].tolist()
    first = list(range(params.grid_heads))
    with_ends = {name: row for name, row in rows.items() if name in (INPUT, TRULY_SMILING, *pasted(rows))}
    pictures = {
        "grid": grid(plain(rows), shown_masks(context, masks, refined), first),
        "pasted": grid(with_ends, {}, first),
        "worst": grid(plain(rows), {}, worst),
    }
    areas = {}
    for suffix in ("", PASTED):
        areas |= sweep_areas(context, strangers["mobilefacenet"], suffix)
    write_outputs(context, scores, embedding, areas, setting, pictures)


def measured_training(context: StageContext) -> dict[str, dict[str, float]]:
    """What the stages of the methods with a network of their own measured; of MaskGAN nothing where it is left out."""
    found = {name: json.loads((context.input(name) / "metrics.json").read_text()) for name in FROM_PHOTOS}
    return {name: values for name, values in found.items() if values.get("train_masks") != 0}


def mouth_iou(seen: Tensor, truth: Tensor, S: SegmentationEnsemble) -> float:
    """IoU with the masks of the truly smiling heads, mean over the parts of the mouth; labels, uint8 [N, H, W] both."""
    scores = segmentation_scores(seen, truth, S.class_names)
    found = [scores.iou[part] for part in MOUTH if part in scores.iou]
    return sum(found) / max(len(found), 1)


def segmentation_accuracy(seen: Tensor, truth: Tensor) -> Tensor:
    """Of each head the pixels that have their true label, in percent; labels, uint8 [N, H, W] both.  # [N]"""
    return 100.0 * (seen == truth).flatten(1).double().mean(1)


def shown_masks(context: StageContext, masks: dict[str, Tensor], refined: str) -> dict[str, Tensor]:
    """The masks beside which grid.png shows pictures, coloured."""
    palette = torch.as_tensor(load_classes(context.input("data") / "classes.json").palette)
    shown = context.params.benchmark.grid_heads
    return {name: colourize(masks[name][:shown], palette) for name in (RECONSTRUCTION, refined)}


def sweep_areas(context: StageContext, stranger: float, suffix: str) -> dict[str, dict[str, Tensor]]:
    """By method and smile judge the area under accuracy over identity, in percent  # [1 + resamples]

    Args:
        stranger: identity of different people, the lower end; the reconstruction's is the upper one
        suffix: which rows: PASTED, or "" for those as generated
    """
    tensors, _ = load_tensors(context.input("sweep") / "heads.safetensors")
    tensors = {key: said.float() for key, said in tensors.items()}
    rows = {key.split(".")[0] for key in tensors}
    names = sorted(name for name in rows if name.endswith(PASTED) is bool(suffix))
    start = RECONSTRUCTION + suffix  # strength 0 of every method
    names.remove(start)
    smile, identity = (
        {name: torch.cat([tensors[f"{start}.{key}"], tensors[f"{name}.{key}"]]) for name in names}
        for key in ("smile", "identity")
    )  # [S, N, judges], [S, N]
    areas: dict[str, dict[str, Tensor]] = {name: {} for name in names}
    for column, judge in enumerate(SMILE_JUDGES):
        found = bootstrap_areas(
            {name: smile[name][..., column] >= SMILE_THRESHOLD for name in names},
            identity,
            stranger=stranger,
            kept=tensors[f"{start}.identity"][0],
            resamples=context.params.benchmark.bootstrap,
            seed=context.params.seed,
        )
        for name, values in found.items():
            areas[name][judge] = values
    return areas


def validation_heads(context: StageContext, renderer: Renderer) -> tuple[Tensor, dict[str, Tensor]]:
    """Validation heads, uint8 [N, 3, H, W], what each rung of the embedding makes of them, and what MaskGAN draws."""
    latents = load_latents(context.input("encoder") / "latents.safetensors")
    rungs = {"encoder": latents["val_encoder"], "encoder_and_optimisation": latents["val"]}
    path, some = context.input("data") / "val.zip", range(len(latents["val"]))
    photos = torch.as_tensor(load_images(path, some))
    made = {rung: renderer.pictures(contextlib.nullcontext(w_plus)) for rung, w_plus in rungs.items()}
    if MASKGAN not in measured_training(context):
        return photos, made
    masks = torch.as_tensor(load_masks(path, some))
    maskgan = load_module(context.input(MASKGAN) / "generator.safetensors", MaskGAN).to(context.device)
    return photos, made | {MASKGAN: edit(maskgan, photos, masks, masks, batch=renderer.batch)}


def make_rows(
    context: StageContext,
    renderer: Renderer,
    heads: SmileHeads,
    methods: dict[str, Method],
    strengths: dict[str, float],
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Pictures of every row, uint8 [N, 3, H, W], and what the segmentation sees on those that it can, [N, H, W]."""
    refined = refined_name(context.params.editing.refine.steps)
    latents = {
        RECONSTRUCTION: load_latents(context.input("encoder") / "latents.safetensors")["test"],  # [N, num_ws, w_dim]
        refined: load_tensors(context.input("sweep") / "refined.safetensors")[0]["w_plus"].float(),
    }
    for (row, w_plus), stage in zip(latents.items(), ("encoder", "sweep"), strict=True):
        if len(w_plus) != len(heads.photos):
            raise UserError(
                f"outputs/{stage}: {len(w_plus)} latents of {row} for {len(heads.photos)} test heads; run stage {stage}"
                " again"
            )
    before = predict_masks(renderer.G, renderer.S, latents[RECONSTRUCTION])
    edited = {name: contextlib.nullcontext(w_plus) for name, w_plus in latents.items()}
    edited |= {name: method(latents[RECONSTRUCTION])(strengths[name]) for name, method in methods.items()}
    generated, on_photos, seen = {}, {}, {}
    order, milliseconds = dict.fromkeys([RECONSTRUCTION, EDITGAN, refined, *edited]), {}
    for done, name in enumerate(order):
        context.run.progress(done, len(order), "rows", f"editing by {name}")
        start = time.monotonic()
        generated[name], on_photos[name + PASTED], seen[name] = renderer.both(edited[name], heads.photos, before)
        milliseconds[name] = 1000 * (time.monotonic() - start) / len(heads.photos)

    generated |= translations(context, heads, milliseconds, batch=renderer.batch)
    context.run.log_metrics({f"{name}.ms_per_head": spent for name, spent in milliseconds.items()})
    print("ms a head: " + ", ".join(f"{name} {spent:.1f}" for name, spent in milliseconds.items()), flush=True)
    truth = {} if heads.smiling is None else {TRULY_SMILING: heads.smiling}
    return {INPUT: heads.photos, **generated, **on_photos, **truth}, seen


def translations(
    context: StageContext, heads: SmileHeads, milliseconds: dict[str, float], *, batch: int
) -> dict[str, Tensor]:
    """What the methods that take the photos themselves make of them, uint8 [N, 3, H, W]; notes the time a head.

    MaskGAN gets the exact masks of the photos, as in its paper, and no mask of a truly smiling test head.
    """
    distilled = load_module(context.input(DISTILLATION) / "generator.safetensors", GlobalGenerator).to(context.device)
    edits = {DISTILLATION: lambda: smile(distilled, heads.photos, batch=batch)}
    if MASKGAN in measured_training(context):
        maskgan = load_module(context.input(MASKGAN) / "generator.safetensors", MaskGAN).to(context.device)
        names = load_classes(context.input("data") / "classes.json").names
        path, resolution = context.input(MASKGAN) / "donor.png", heads.photos.shape[-1]
        wanted = smile_masks(heads.masks, read_mask(path, resolution=resolution, classes=len(names)), names)
        edits[MASKGAN] = lambda: edit(maskgan, heads.photos, heads.masks, wanted, batch=batch)
    made = {}
    for name, make in edits.items():
        start = time.monotonic()
        made[name] = make()
        milliseconds[name] = 1000 * (time.monotonic() - start) / len(heads.photos)
    return made


def write_outputs(
    context: StageContext,
    scores: dict[str, Scores],
    embedding: dict[str, dict[str, float]],
    areas: dict[str, dict[str, Tensor]],
    setting: Setting,
    pictures: dict[str, Image.Image],
) -> None:
    """Figures, tables and pictures, and report.html, which shows them all; mirrored to the run.

    The run's copy of the report also says what made it, commit and versions, which are no part of the result.
    """
    values = {
        row: {column: _rounded(column, value) for column, value in of_row.values.items()}
        for row, of_row in scores.items()
    }
    intervals = {
        row: {column: [_rounded(column, bound) for bound in bounds] for column, bounds in of_row.intervals.items()}
        for row, of_row in scores.items()
    }
    strangers = {name: _rounded(name, value) for name, value in setting.different_people.items()}
    group = f"smile_test{setting.heads}"  # the heads that every figure of it is a mean over
    counts = {"heads": setting.heads, "reference_heads": setting.reference_heads}
    rungs = {
        rung: {column: _rounded(column, value) for column, value in figures.items()}
        for rung, figures in embedding.items()
    }
    area = {
        name: {judge: _rounded(judge, float(resampled[0])) for judge, resampled in row.items()}
        for name, row in areas.items()
    }
    tables = {group: values, f"area_test{setting.heads}": area, f"embedding_val{setting.val_heads}": rungs}
    metrics = tables | {"different_people": strangers} | counts
    write_json(context.out / "metrics.json", metrics)
    write_json(context.out / "intervals.json", intervals)
    recipe = (context.input("data") / "recipe.json").read_text()
    heads = {f"{row}.{column}": said for row, of_row in scores.items() for column, said in of_row.heads.items()}
    save_tensors(context.out / "heads.safetensors", heads, {"data": json.loads(recipe)})  # [N] each, and of which heads
    quality = (context.input("judges") / "quality.md").read_text()
    folder = context.input("sweep") / "curves"
    names = (RECONSTRUCTION, *plain(areas), RECONSTRUCTION + PASTED, *pasted(areas))
    curves = {name: json.loads((folder / f"{name}.json").read_text()) for name in names}
    improving = [name for name, found in setting.trained.items() if found["still_improving"]]
    text = report(scores, embedding, areas, curves, setting, quality)
    write_bytes(context.out / "table.md", text.encode())
    write_bytes(context.out / "table.tex", latex_table(plain(scores), latex_columns(setting), improving).encode())
    points = {name: scores[name].values for name in setting.trained}
    write_bytes(context.out / "curves.png", curves_png(plain(curves), RECONSTRUCTION, points))
    write_bytes(context.out / "curves_pasted.png", curves_png(pasted(curves), RECONSTRUCTION + PASTED, points))
    trained = {
        name: (column, json.loads((context.input(name) / "curves" / "val.json").read_text()))
        for name, column in VALIDATED.items()
        if name in setting.trained
    }
    write_bytes(context.out / "training.png", training_png(trained))
    for name, picture in pictures.items():
        save_png(context.out / f"{name}.png", picture)
    captions = {
        "curves": "Over all strengths",
        "curves_pasted": "Over all strengths, pasted back",
        "grid": "The first test heads",
        "pasted": "The first test heads, pasted back",
        "training": "Training of the methods with a network of their own",
        "worst": f"Where {title_of(refined_name(setting.refine_steps))} smiles least, by the judge",
    }
    shown = {caption: (context.out / f"{name}.png").read_bytes() for name, caption in captions.items()}
    params = yaml.safe_dump(context.params.model_dump(mode="json", exclude={"runtime", "nightly"}), sort_keys=False)
    facts = {
        "data": recipe.strip(),
        "hash of all inputs": context.work.name,
        "commit and versions": "in the copy of this page that MLflow keeps",
    }
    write_bytes(context.out / "report.html", html_report(text, shown, facts, params).encode())
    page = html_report(text, shown, facts | made_by(context), params)
    context.run.log_file(write_bytes(context.work / "report.html", page.encode()))

    for name, table in tables.items():
        context.run.log_metrics(
            {f"{name}.{row}.{column}": value for row, figures in table.items() for column, value in figures.items()}
        )
    for name in ("table.md", "table.tex", "intervals.json", "heads.safetensors"):
        context.run.log_file(context.out / name)
    for name in captions:
        context.run.log_image(context.out / f"{name}.png", name)


def latex_columns(setting: Setting) -> list[str]:
    """The columns of the paper's table and KID: accuracy, KID, FID, identity."""
    features, identity = setting.feature_networks[-1], setting.identity_networks[-1]  # the published ones if there
    counted = [f"{metric}{setting.heads}_{features}" for metric in ("kid", "fid")]
    return [*(f"smiling_{judge}" for judge in SMILE_JUDGES), *counted, f"identity_{identity}"]


def made_by(context: StageContext) -> dict[str, str]:
    """Commit and versions."""
    tags = git_tags(context.root)
    changed = " and changes on top" if tags["git_dirty"] == "true" else ""
    return {
        "commit": tags.get("mlflow.source.git.commit", "unknown") + changed,
        "torch": f"{torch.__version__}, {context.device}, {torch.get_num_threads()} threads",
        "Python": f"{platform.python_version()} on {platform.system()} {platform.machine()}",
    }


def _rounded(column: str, value: float) -> float:
    return round(value, DIGITS.get(column[:3], OTHER_DIGITS))
