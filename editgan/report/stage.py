"""Stage `report`: the results of a run on one page that needs no server and no other file."""

import json
import platform
from pathlib import Path
from typing import Any

import torch
import yaml
from jinja2 import Environment, StrictUndefined
from markdown_it import MarkdownIt

from editgan.benchmark.areas import strangers, sweep_areas
from editgan.benchmark.pictures import curves_png
from editgan.benchmark.titles import SMILING, TRUTHS, cell, column_title, judges_of, ranked_by, title_of
from editgan.benchmark.verdict import largest_area
from editgan.config import Params, read_yaml
from editgan.data.protocol import load_protocol
from editgan.editing.vectors import MEAN, load_vectors
from editgan.encoder.encoder import load_latents
from editgan.generator.generator import load_generator
from editgan.methods.registry import CONDITIONAL, INTERFACEGAN
from editgan.methods.smile import EDITGAN, FROM_PHOTOS, INPUT, PLUS, RECONSTRUCTION, refined_name
from editgan.report.failures import KID, failures, figures_of
from editgan.report.nightly import load_results
from editgan.report.pictures import column, data_uri, enlarged, vector_row
from editgan.runtime.stage import StageContext
from editgan.runtime.tracking import git_tags
from editgan.scoring.table import Column, Row, Table, only
from editgan.weights import write_bytes, write_json

PHOTOGRAPHS = Path("baseline/photographs")  # accepted results of a run on photographs, if there are any
STRENGTHS = (-2.0, -1.0, 0.0, 1.0, 2.0)  # of the editing vectors; 1 is the learned vector
CAPTIONS = {
    "grid": "The first test heads, with masks",
    "pasted": "The first test heads, pasted back",
    "worst": "Heads that smile least with {}, by the judge",
    "curves": "Over all strengths",
    "curves_pasted": "Over all strengths, pasted back",
    "training": "Training of the methods with their own network",
}
OTHER_CAPTIONS = {  # of classes without faces
    "grid": "The first test pictures, with masks",
    "pasted": "The first test pictures, pasted back",
    "worst": "Pictures that change least with {}, by the judge",
}


def run(context: StageContext) -> None:
    """Write index.html, and metrics.json with the counts of what it shows.

    The run's copy also lists commit and versions, which are not part of the result.
    """
    torch.set_num_threads(1)  # the vectors' pictures have the same bytes on any number of cores
    shown = content(context)
    write_bytes(context.out / "index.html", rendered(shown).encode())
    page = rendered(shown | {"facts": shown["facts"] | made_by(context)})
    context.run.log_file(write_bytes(context.work / "index.html", page.encode()))
    counts = {"heads": shown["strip"]["heads"], "methods": len(shown["strip"]["columns"])}
    counts |= {"vectors": len(shown["vectors"]), "failures": len(shown["failures"])}
    write_json(context.out / "metrics.json", counts)
    context.run.log_metrics(counts)


def content(context: StageContext) -> dict[str, Any]:
    """What the template shows."""
    params, bench, scored = context.params, context.input("benchmark"), context.input("scoring")
    results, sweep = (load_results(folder / "results.csv") for folder in (bench, scored))
    choice = json.loads((scored / "metrics.json").read_text())
    refined = refined_name(params.editing.refine.steps)
    success, kept = ranked_by(results)
    apart, judges = strangers(results[Row(INPUT)])[kept.network], judges_of(results[Row(INPUT)])
    protocol = load_protocol(context.input("data"))
    areas = sweep_areas(scored / "heads.safetensors", stranger=apart, seed=params.seed)
    learned = json.loads((context.input("editing") / "metrics.json").read_text())
    trained = {name: json.loads((context.input(name) / "metrics.json").read_text()) for name in FROM_PHOTOS}
    unfinished = [name for name, found in trained.items() if Row(name) in results and found["still_improving"]]
    points = {Row(name): results[Row(name)] for name in FROM_PHOTOS if Row(name) in results}
    curves = curves_png(only(sweep, pasted=False), points, [Column(success.metric, judge) for judge in judges])
    rendered_heads = params.data.source == "heads"
    return {
        "heads": results[Row(INPUT)][success].samples,
        "protocol": protocol,
        "networks": len(judges),
        "rendered": rendered_heads,
        "truth": any(Row(name) in results for name in TRUTHS),
        "validation_heads": choice["val_heads"],
        "refine_steps": params.editing.refine.steps,
        "stranger": f"{apart:.3f}",
        "strip": strip(results, bench / "columns", params.report.heads),
        "table": headline_table(results, refined),
        "curve": data_uri(curves),
        "largest": [largest_area(only(areas, pasted=False), "as generated", judge) for judge in judges],
        "strengths": [f"{strength:g}" for strength in STRENGTHS],
        "side": enlarged(params.resolution),
        "vectors": vectors(context),
        "failures": failures(results, areas, learned, unfinished, refined),
        "photographs": photographs(context.root / PHOTOGRAPHS, params, refined) if rendered_heads else None,
        "sections": sections((bench / "table.md").read_text()),
        "pictures": {
            caption.format(title_of(refined)): data_uri((bench / f"{name}.png").read_bytes())
            for name, caption in (CAPTIONS if protocol.faces else CAPTIONS | OTHER_CAPTIONS).items()
            if name != "training" or points
        },
        "facts": {
            "data": (context.input("data") / "recipe.json").read_text().strip(),
            "hash of all inputs": context.work.name,
            "commit and versions": "see the copy of this page in MLflow",
        },
        "params": yaml.safe_dump(params.model_dump(mode="json", exclude={"runtime"}), sort_keys=False),
    }


def strip(results: Table, columns: Path, heads: int) -> dict[str, Any]:
    """The first heads in one picture per method: title, strength and data URI, from the input to the true smile.

    The conditional variant of InterFaceGAN is left out, so that all columns fit a screen.
    """
    strengths = {row.method: row.strength for row in only(results, pasted=False) if row.strength is not None}
    made = [name for name in figures_of(results) if name != CONDITIONAL and (columns / f"{name}.png").exists()]
    found = {name: column(columns / f"{name}.png", heads) for name in (INPUT, RECONSTRUCTION, *made)}
    _, side, shown = found[INPUT]
    edited = {name: strength for name, strength in strengths.items() if name != RECONSTRUCTION}
    return {
        "heads": shown,
        "side": enlarged(side),
        "columns": [
            {
                "title": title_of(name).removesuffix(" (ceiling)"),
                "strength": f"{edited[name]:g}" if name in edited else None,
                "picture": uri,
            }
            for name, (uri, _, _) in found.items()
        ],
    }


def headline_table(results: Table, refined: str) -> dict[str, Any]:
    """Five rows and three columns, with intervals."""
    figures, columns = figures_of(results), (*ranked_by(results), KID)
    names = (RECONSTRUCTION, EDITGAN, PLUS, refined, INTERFACEGAN)
    samples = figures[RECONSTRUCTION][columns[0]].samples
    return {
        "head": [column_title(one, samples) for one in columns],
        "rows": [(title_of(name), [cell(figures[name].get(one), one) for one in columns]) for name in names],
    }


def vectors(context: StageContext) -> list[tuple[str, str, str]]:
    """Name, description and picture of every mean editing vector, in the order of edits.yaml."""
    described = read_yaml(context.root / "edits.yaml")
    learned = load_vectors(context.input("editing") / "vectors")
    G = load_generator(context.input("generator") / "G_ema.safetensors", context.device)
    w_plus = load_latents(context.input("encoder") / "latents.safetensors")["test"][:1].to(context.device)
    return [
        (name, edit["about"], vector_row(G, w_plus, learned[f"{name}{MEAN}"], STRENGTHS))
        for name, edit in described.items()
        if name in learned
    ]


def photographs(folder: Path, params: Params, refined: str) -> dict[str, Any] | None:
    """Table and strip of the accepted results on photographs; None if there are none."""
    if not (folder / "results.csv").exists():
        return None
    results = load_results(folder / "results.csv")
    return {
        "people": results[Row(INPUT)][SMILING].samples,
        "table": headline_table(results, refined),
        "strip": strip(results, folder / "columns", params.report.heads),
    }


def sections(text: str) -> list[tuple[str, str]]:
    """The sections of table.md: heading and HTML. Tables scroll inside their own box."""
    found = []
    for part in text.split("\n## ")[1:]:
        heading, _, body = part.partition("\n")
        html = MarkdownIt().enable("table").render(body)
        found.append(
            (heading, html.replace("<table>", '<div class="wide"><table>').replace("</table>", "</table></div>"))
        )
    return found


def rendered(shown: dict[str, Any]) -> str:
    """The page, from the template index.html beside this file."""
    pages = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined)
    return pages.from_string(Path(__file__).with_name("index.html").read_text()).render(shown) + "\n"


def made_by(context: StageContext) -> dict[str, str]:
    """Commit and versions of the run."""
    tags = git_tags(context.root)
    changed = " and changes on top" if tags["git_dirty"] == "true" else ""
    return {
        "commit and versions": tags.get("mlflow.source.git.commit", "unknown") + changed,
        "torch": f"{torch.__version__}, {context.device}, {torch.get_num_threads()} threads",
        "Python": f"{platform.python_version()} on {platform.system()} {platform.machine()}",
    }
