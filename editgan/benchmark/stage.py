"""Stage `benchmark`: edit the test heads with every method, apply the judges, write tables and pictures."""

import contextlib
import json
from functools import partial
from pathlib import Path
from typing import Any

import torch

from editgan.benchmark.areas import areas_table, strangers, sweep_areas
from editgan.benchmark.pictures import curves_png, grid, training_png
from editgan.benchmark.table_page import markdown_report
from editgan.benchmark.tables import latex_table
from editgan.benchmark.titles import TRUTHS, judges_of, kind_of, title_of
from editgan.config import Params
from editgan.data.archive import count, load_classes
from editgan.data.protocol import load_protocol
from editgan.editing.vectors import load_vector
from editgan.errors import UserError
from editgan.images import colourize, image_grid, save_png
from editgan.methods.registry import CONDITIONAL, INTERFACEGAN, LOCALEDITING
from editgan.methods.smile import (
    DISTILLATION,
    EDITGAN,
    FROM_PHOTOS,
    INPUT,
    MASKGAN,
    PLUS,
    RECONSTRUCTION,
    refined_name,
)
from editgan.runtime.stage import StageContext
from editgan.scoring.rows import EMBEDDING, Rows, Scored, score_rows
from editgan.scoring.scores import save_heads
from editgan.scoring.table import (
    Column,
    Row,
    Table,
    merged,
    metrics_of,
    of_method,
    only,
    parse_table,
    table_csv,
)
from editgan.weights import load_metadata, load_tensors, write_bytes, write_json

OTHERS = (INTERFACEGAN, LOCALEDITING, DISTILLATION, MASKGAN)  # methods with their own stage
VALIDATED = {DISTILLATION: "val_l1", MASKGAN: "val_lpips"}  # validation metric drawn in the report


def run(context: StageContext) -> None:
    """Make the rows of the table, score them, write metrics, tables and pictures."""
    choice = json.loads((context.input("scoring") / "metrics.json").read_text())
    strengths = {name: row["strength"] for name, row in choice["chosen"].items()}
    rows, embedding = scored_rows(context, strengths)
    results = {row: one.scores.figures for row, one in rows.items()}
    inputs = results[Row(INPUT)]
    apart, protocol = strangers(inputs), load_protocol(context.input("data"))
    areas = sweep_areas(
        context.input("scoring") / "heads.safetensors", stranger=apart[protocol.kept_by], seed=context.params.seed
    )
    trained = {name: found for name, found in measured_training(context).items() if Row(name) in rows}
    facts = stated(context, rows, strengths) | {
        "val_heads": next(iter(next(iter(embedding.values())).values())).samples,
        "chosen_on": choice["val_heads"],
        "features": ", ".join(networks_of(results, "kid")),
        "inception": "inception" in networks_of(results, "kid"),
        "identity_networks": ", ".join(networks_of(results, protocol.kept)),
        "protocol": protocol,
        "judges": judges_of(column for figures in results.values() for column in figures),
        "parser_masks": json.loads((context.input(MASKGAN) / "metrics.json").read_text()).get("parser_masks", 0),
        "strangers": ", ".join(f"{value:.3f} ({name})" for name, value in apart.items()),
    }
    write_figures(context, merged([results, embedding, areas_table(areas, facts["heads"])]), rows)
    improving = [name for name, found in trained.items() if found["still_improving"]]
    plain = only(results, pasted=False)
    write_bytes(context.out / "table.tex", latex_table(plain, latex_columns(results), improving).encode())
    path = context.input("scoring") / "results.csv"
    sweep = parse_table(path.read_bytes(), str(path))
    text = markdown_report(results, embedding, areas, sweep, trained, facts)
    write_bytes(context.out / "table.md", text.encode())
    write_curves(context, sweep, {Row(name): results[Row(name)] for name in trained})
    write_grids(context, rows, strengths[PLUS])
    write_columns(context, rows)
    for picture in sorted(context.out.glob("*.png")):
        context.run.log_image(picture, picture.stem)
    for name in ("table.md", "table.tex", "results.csv", "heads.safetensors"):
        context.run.log_file(context.out / name)


def scored_rows(context: StageContext, strengths: dict[str, float]) -> tuple[dict[Row, Scored], Table]:
    """Every row of the table, and the metrics of the embedding.

    Args:
        strengths: of each method that has one
    """
    outputs = context.root / "outputs"
    refined = refined_name(context.params.editing.refine.steps)
    jobs: list[tuple[str, float | None]] = [(INPUT, None), (RECONSTRUCTION, 0.0)]
    jobs += [(EDITGAN, strengths[EDITGAN]), (PLUS, strengths[PLUS]), (refined, strengths[PLUS])]
    jobs += [(name, strengths[name]) for name in (INTERFACEGAN, CONDITIONAL, LOCALEDITING)]
    jobs += [(name, None) for name in measured_training(context)]
    if count(context.input("data") / "test_smiling.zip"):
        jobs.append((load_protocol(context.input("data")).truth, None))
    jobs.append((EMBEDDING, None))
    rows: dict[Row, Scored] = {}
    embedding: Table = {}
    load = partial(load_rows, outputs, context.params, context.device)
    scores = score_rows(load, jobs, device=context.device, processes=context.params.runtime.processes)
    for done, (job, scored) in enumerate(zip(jobs, scores, strict=True), 1):
        context.run.progress(done, len(jobs), "rows", title_of(job[0]))
        if job[0] == EMBEDDING:
            embedding = {one.row: one.scores.figures for one in scored}
        else:
            rows |= {one.row: one for one in scored}
    milliseconds = {row.method: one.ms_per_head for row, one in rows.items() if one.ms_per_head is not None}
    context.run.log_metrics({f"{name}.ms_per_head": spent for name, spent in milliseconds.items()})
    print("ms per head: " + ", ".join(f"{name} {spent:.1f}" for name, spent in milliseconds.items()), flush=True)
    return rows, embedding


def load_rows(outputs: Path, params: Params, device: torch.device) -> Rows:
    """The scorer of the table's rows; it uses the refined latents of stage scoring."""
    rows = Rows(outputs, params, device)
    refined = refined_name(params.editing.refine.steps)
    latents = load_tensors(outputs / "scoring" / "refined.safetensors")[0]["w_plus"].float()  # [N, num_ws, w_dim]
    if len(latents) != len(rows.w_plus):
        raise UserError(
            f"outputs/scoring: {len(latents)} latents of {refined} for {len(rows.w_plus)} test heads; run stage scoring"
            " again"
        )
    rows.methods[refined] = lambda w_plus: lambda strength: contextlib.nullcontext(latents)
    return rows


def stated(context: StageContext, rows: dict[Row, Scored], strengths: dict[str, float]) -> dict[str, Any]:
    """What the report says about the experiment, by the names of its template."""
    params, vectors = context.params, context.input("editing") / "vectors"
    vector, plus = (
        load_vector(vectors / f"{name}.safetensors") for name in (params.scoring.vector, params.scoring.plus_vector)
    )
    return {
        "heads": len(rows[Row(INPUT)].pictures),
        "quality": (context.input("judges") / "quality.md").read_text().strip(),
        "reference_heads": count(context.input("data") / "reference.zip"),
        "vector": vector,
        "plus_heads": plus.source.count(",") + 1,
        "masks": params.segmentation.labelled_images,
        "edit_steps": params.editing.edit.steps,
        "refine_steps": params.editing.refine.steps,
        "strengths": ", ".join(f"{title_of(name)} {value:g}" for name, value in strengths.items()),
        "given": {name: getattr(params, name).model_dump() for name in OTHERS},
        "rendered": params.data.source == "heads",  # rather than photographs
        "papers_data": params.data.source == "celeba_hq",
        "generator": generator_of(context),
        "truth": any(Row(name) in rows for name in TRUTHS),
    }


def generator_of(context: StageContext) -> str:
    """Origin and size of the generator."""
    metadata = load_metadata(context.input("generator") / "G_ema.safetensors")
    origin = metadata["imported"]["file"] if "imported" in metadata else "trained in this run"
    return f"{origin}, {metadata['config']['img_resolution']} px"


def networks_of(results: Table, metric: str) -> tuple[str, ...]:
    """The networks that measured a metric, in the order of the table."""
    found = (column.network for figures in results.values() for column in figures if column.metric == metric)
    return tuple(dict.fromkeys(found))


def measured_training(context: StageContext) -> dict[str, dict[str, float]]:
    """Metrics of the stages of methods with their own network; without those that are left out."""
    found = {name: json.loads((context.input(name) / "metrics.json").read_text()) for name in FROM_PHOTOS}
    return {name: values for name, values in found.items() if 0 not in (values.get("train_masks"), values.get("pairs"))}


def write_figures(context: StageContext, whole: Table, rows: dict[Row, Scored]) -> None:
    """Write results.csv, metrics.json and the values of each head, with the recipe of the heads."""
    write_bytes(context.out / "results.csv", table_csv(whole))
    metrics = metrics_of(whole)
    write_json(context.out / "metrics.json", metrics)
    for group, of in metrics.items():
        context.run.log_metrics(
            {f"{group}.{row}.{column}": value for row, figures in of.items() for column, value in figures.items()}
        )
    heads = {(row, column): said for row, one in rows.items() for column, said in one.scores.heads.items()}
    recipe = json.loads((context.input("data") / "recipe.json").read_text())
    save_heads(context.out / "heads.safetensors", heads, {"data": recipe})


def write_curves(context: StageContext, sweep: Table, points: Table) -> None:
    """Draw the curves over strengths and over training; `points` are the methods without a strength."""
    for name, pasted in (("curves", False), ("curves_pasted", True)):
        write_bytes(context.out / f"{name}.png", curves_png(only(sweep, pasted=pasted), points))
    trained = {
        name: (column, json.loads((context.input(name) / "curves" / "val.json").read_text()))
        for name, column in VALIDATED.items()
        if Row(name) in points
    }
    write_bytes(context.out / "training.png", training_png(trained))


def write_grids(context: StageContext, rows: dict[Row, Scored], strength: float) -> None:
    """Draw the first heads and the worst; `strength` is that of EditGAN+, refined or not."""
    shown, refined = context.params.benchmark.grid_heads, refined_name(context.params.editing.refine.steps)
    worst = rows[Row(refined, strength)].smile[:, 0].argsort(stable=True)[:shown]
    first = torch.arange(min(shown, len(rows[Row(INPUT)].pictures)))
    plain, pasted = only(rows, pasted=False), only(rows, pasted=True)
    ends = of_method(rows, INPUT) | pasted
    for name in TRUTHS:
        ends |= of_method(rows, name)
    palette = torch.as_tensor(load_classes(context.input("data") / "classes.json").palette)
    masks = {
        row.method: colourize(one.masks[first], palette)
        for row, one in plain.items()
        if row.method in (RECONSTRUCTION, refined)
    }
    for name, of, heads in (("grid", plain, first), ("pasted", ends, first), ("worst", plain, worst)):
        pictures = {row.method: one.pictures[heads] for row, one in of.items()}  # uint8 [len(heads), 3, H, W]
        save_png(context.out / f"{name}.png", grid(pictures, masks if name == "grid" else {}))


def write_columns(context: StageContext, rows: dict[Row, Scored]) -> None:
    """Write columns/METHOD.png: the first heads as generated, one below the other, at their own resolution."""
    shown = context.params.benchmark.grid_heads
    for row, one in only(rows, pasted=False).items():
        save_png(context.out / "columns" / f"{row.method}.png", image_grid(one.pictures[:shown], columns=1))


def latex_columns(results: Table) -> list[Column]:
    """The columns of the paper's table and KID: accuracy, KID, FID, identity."""
    columns = [column for figures in results.values() for column in figures]
    kind = kind_of(columns)
    features, identity = networks_of(results, "kid")[-1], networks_of(results, kind.kept)[-1]  # published ones last
    success = [Column(kind.success, judge) for judge in judges_of(columns)]
    return [*success, Column("kid", features), Column("fid", features), Column(kind.kept, identity)]
