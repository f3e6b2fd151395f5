"""Stage `benchmark`: edits the test heads by every method, lets the judges look, writes the table."""

import json
import platform
import time

import torch
import yaml
from PIL import Image
from torch import Tensor, nn

from editgan.assets.reference import load_ir_se50, load_reference_inception
from editgan.benchmark.envelope import bootstrap_areas
from editgan.benchmark.methods import Method, load_methods
from editgan.benchmark.page import curves_png, html_report
from editgan.benchmark.report import Setting, grid, latex_table, report, title_of
from editgan.benchmark.scores import (
    Scores,
    Yardsticks,
    different_people_cosine,
    measure_reference,
    measure_row,
    score_embedding,
    score_row,
)
from editgan.benchmark.smile import (
    EDITGAN,
    INPUT,
    RECONSTRUCTION,
    TRULY_SMILING,
    SmileHeads,
    load_heads,
    refined_name,
    synthesise,
)
from editgan.data.archive import load_classes, load_images
from editgan.editing.vectors import load_vector
from editgan.encoder.encoder import load_latents
from editgan.errors import UserError
from editgan.generator.generator import load_generator
from editgan.images import colourize, save_png
from editgan.judges import SMILE_JUDGES, load_judges
from editgan.judges.quality import SMILE_THRESHOLD
from editgan.segmentation.ensemble import load_segmentation
from editgan.segmentation.predict import predict_masks
from editgan.stage import StageContext
from editgan.tracking import git_tags
from editgan.weights import load_tensors, write_bytes, write_json

DIGITS = {"fid": 3}  # decimals written: beyond them lies the rounding of a matrix square root
OTHER_DIGITS = 6


def run(context: StageContext) -> None:
    """Make the rows of the table, measure them, write metrics.json, table.md and grid.png."""
    params, seed = context.params.benchmark, context.params.seed
    data = context.input("data")
    vector = load_vector(context.input("editing") / "vectors" / f"{context.params.sweep.vector}.safetensors")
    heads = load_heads(data)
    G = load_generator(context.input("generator") / "G_ema.safetensors", context.device)
    methods = load_methods(context.root / "outputs", G, vector, batch=params.batch, device=context.device)
    chosen = json.loads((context.input("sweep") / "metrics.json").read_text())["chosen"]
    strengths = {name: chosen[name]["strength"] for name in methods}
    rows, masks = make_rows(context, G, heads, methods, strengths)

    yardsticks = load_yardsticks(context)
    photos, reconstructions = validation_heads(context, G)
    embedding = score_embedding(photos, reconstructions, yardsticks)
    references = measure_reference(torch.as_tensor(load_images(data / "reference.zip")), yardsticks)
    measured = {}
    for done, (name, pictures) in enumerate(rows.items()):
        context.run.progress(done, len(rows), "rows", f"judging {name}")
        measured[name] = measure_row(pictures, heads.smiling, yardsticks)
    scores = {}
    for done, name in enumerate(rows):
        context.run.progress(done, len(rows), "rows", f"scoring {name}")
        scores[name] = score_row(
            name,
            measured,
            heads,
            references,
            kid_subsets=params.kid_subsets,
            bootstrap=params.bootstrap,
            seed=seed,
        )

    strangers = {
        name: different_people_cosine(features, heads.identities) for name, features in measured[INPUT].identity.items()
    }
    setting = Setting(
        heads=len(heads.photos),
        val_heads=len(photos),
        reference_heads=len(next(iter(references.values())).features),
        vector=vector.name,
        source=vector.source,
        strengths=strengths,
        refine_steps=context.params.editing.refine.steps,
        feature_networks=tuple(yardsticks.features),
        identity_networks=tuple(yardsticks.identity),
        different_people=strangers,
        kid_subsets=params.kid_subsets,
        bootstrap=params.bootstrap,
    )
    worst = measured[refined_name(setting.refine_steps)].smile[:, 0].argsort(stable=True)[: params.grid_heads].tolist()
    pictures = {"grid": grid(rows, masks, list(range(params.grid_heads))), "worst": grid(rows, {}, worst)}
    areas = sweep_areas(context, strangers["mobilefacenet"])
    write_outputs(context, scores, embedding, areas, setting, pictures)


def sweep_areas(context: StageContext, stranger: float) -> dict[str, dict[str, Tensor]]:
    """By method and smile judge the area under accuracy over identity, in percent  # [1 + resamples]"""
    tensors, _ = load_tensors(context.input("sweep") / "heads.safetensors")
    names = sorted({key.split(".")[0] for key in tensors} - {RECONSTRUCTION})
    kept = {key: tensors[f"{RECONSTRUCTION}.{key}"] for key in ("smile", "identity")}  # strength 0 of every method
    smile, identity = (
        {name: torch.cat([kept[key], tensors[f"{name}.{key}"]]) for name in names} for key in ("smile", "identity")
    )  # [S, N, judges], [S, N]
    areas: dict[str, dict[str, Tensor]] = {name: {} for name in names}
    for column, judge in enumerate(SMILE_JUDGES):
        found = bootstrap_areas(
            {name: smile[name][..., column] >= SMILE_THRESHOLD for name in names},
            identity,
            stranger=stranger,
            kept=kept["identity"][0],
            resamples=context.params.benchmark.bootstrap,
            seed=context.params.seed,
        )
        for name, values in found.items():
            areas[name][judge] = values
    return areas


def validation_heads(context: StageContext, G: nn.Module) -> tuple[Tensor, dict[str, Tensor]]:
    """Validation heads, uint8 [N, 3, H, W], and what each rung of the embedding makes of them."""
    latents = load_latents(context.input("encoder") / "latents.safetensors")
    batch, device = context.params.benchmark.batch, context.device
    rungs = {"encoder": latents["val_encoder"], "encoder_and_optimisation": latents["val"]}
    photos = torch.as_tensor(load_images(context.input("data") / "val.zip", range(len(latents["val"]))))
    return photos, {rung: synthesise(G, w_plus, batch=batch, device=device) for rung, w_plus in rungs.items()}


def make_rows(
    context: StageContext, G: nn.Module, heads: SmileHeads, methods: dict[str, Method], strengths: dict[str, float]
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Pictures of every row, uint8 [N, 3, H, W], and coloured predicted masks of the rows that grid.png shows."""
    params, device = context.params.benchmark, context.device
    plus = refined_name(context.params.editing.refine.steps)
    latents = {
        RECONSTRUCTION: load_latents(context.input("encoder") / "latents.safetensors")["test"],  # [N, num_ws, w_dim]
        plus: load_tensors(context.input("sweep") / "refined.safetensors")[0]["w_plus"].float(),
    }
    for (row, w_plus), stage in zip(latents.items(), ("encoder", "sweep"), strict=True):
        if len(w_plus) != len(heads.photos):
            raise UserError(
                f"outputs/{stage}: {len(w_plus)} latents of {row} for {len(heads.photos)} test heads; run stage {stage}"
                " again"
            )
    started = time.monotonic()
    edited = {name: method(latents[RECONSTRUCTION], strengths[name]) for name, method in methods.items()}
    milliseconds = 1000 * (time.monotonic() - started) / (len(edited) * len(heads.photos))
    context.run.log_metrics({"synthesis_ms_per_head": milliseconds})
    generated = {name: synthesise(G, w, batch=params.batch, device=device) for name, w in latents.items()}
    order = dict.fromkeys([RECONSTRUCTION, EDITGAN, plus, *edited])
    generated = {name: (generated | edited)[name] for name in order}

    S = load_segmentation(context.input("segmentation") / "S.safetensors", device)
    palette = torch.as_tensor(load_classes(context.input("data") / "classes.json").palette)
    masks = {
        name: colourize(predict_masks(G, S, w_plus[: params.grid_heads]), palette) for name, w_plus in latents.items()
    }
    return {INPUT: heads.photos, **generated, TRULY_SMILING: heads.smiling}, masks


def load_yardsticks(context: StageContext) -> Yardsticks:
    """The judges, and beside them the published reference networks where the user supplied their files."""
    assets, device = context.params.assets, context.device
    judges = load_judges(context.input("assets"), context.input("judges"), device)
    identity, features = {"mobilefacenet": judges.identity}, {"efflite0": judges.features}
    if assets.ir_se50 is not None:
        identity["ir_se50"] = load_ir_se50(assets.ir_se50, assets.ir_se50_sha256).to(device)
    if assets.reference_inception is not None:
        inception = load_reference_inception(assets.reference_inception, assets.reference_inception_sha256)
        features["inception"] = inception.to(device)
    return Yardsticks(
        judges=judges, identity=identity, features=features, batch=context.params.benchmark.batch, device=device
    )


def write_outputs(
    context: StageContext,
    scores: dict[str, Scores],
    embedding: dict[str, dict[str, float]],
    areas: dict[str, dict[str, Tensor]],
    setting: Setting,
    pictures: dict[str, Image.Image],
) -> None:
    """Figures, tables and pictures, mirrored to the run, and report.html, which shows them all.

    The report also says what made it, commit and versions, which are no part of the result: it is no output of DVC.
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
    quality = (context.input("judges") / "quality.md").read_text()
    folder = context.input("sweep") / "curves"
    curves = {name: json.loads((folder / f"{name}.json").read_text()) for name in (RECONSTRUCTION, *areas)}
    text = report(scores, embedding, areas, curves, setting, quality)
    write_bytes(context.out / "table.md", text.encode())
    write_bytes(context.out / "table.tex", latex_table(scores, latex_columns(setting)).encode())
    start = curves.pop(RECONSTRUCTION)[0]
    write_bytes(context.out / "curves.png", curves_png(curves, start))
    for name, picture in pictures.items():
        save_png(context.out / f"{name}.png", picture)
    captions = {
        "curves": "Over all strengths",
        "grid": "The first test heads",
        "worst": f"Where {title_of(refined_name(setting.refine_steps))} smiles least, by the judge",
    }
    shown = {caption: (context.out / f"{name}.png").read_bytes() for name, caption in captions.items()}
    params = yaml.safe_dump(context.params.model_dump(mode="json"), sort_keys=False)
    page = html_report(text, shown, facts_of(context), params)
    write_bytes(context.out / "report.html", page.encode())

    for name, table in tables.items():
        context.run.log_metrics(
            {f"{name}.{row}.{column}": value for row, figures in table.items() for column, value in figures.items()}
        )
    for name in ("table.md", "table.tex", "intervals.json", "report.html"):
        context.run.log_file(context.out / name)
    for name in captions:
        context.run.log_image(context.out / f"{name}.png", name)


def latex_columns(setting: Setting) -> list[str]:
    """The columns of the paper's table and KID: accuracy, FID, KID, identity."""
    features, identity = setting.feature_networks[-1], setting.identity_networks[-1]  # the published ones if there
    counted = [f"{metric}{setting.heads}_{features}" for metric in ("fid", "kid")]
    return [*(f"smiling_{judge}" for judge in SMILE_JUDGES), *counted, f"identity_{identity}"]


def facts_of(context: StageContext) -> dict[str, str]:
    """What made the report: commit, inputs, data, versions."""
    tags = git_tags(context.root)
    commit = tags.get("mlflow.source.git.commit", "unknown")
    changed = " and changes on top" if tags["git_dirty"] == "true" else ""
    return {
        "commit": commit + changed,
        "hash of all inputs": context.work.name,
        "data": (context.input("data") / "recipe.json").read_text().strip(),
        "torch": f"{torch.__version__}, {context.device}, {torch.get_num_threads()} threads",
        "Python": f"{platform.python_version()} on {platform.system()} {platform.machine()}",
    }


def _rounded(column: str, value: float) -> float:
    return round(value, DIGITS.get(column[:3], OTHER_DIGITS))
