"""table.md: the tables with explanations, from the template `table.md` beside this file."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined

from editgan.benchmark.published import differences, published_table
from editgan.benchmark.tables import (
    UNFINISHED,
    Areas,
    area_table,
    at_unit_strength,
    embedding_table,
    matched_identity,
    sweep_table,
    table,
)
from editgan.benchmark.titles import title_of
from editgan.benchmark.verdict import verdict
from editgan.judges.quality import SMILE_THRESHOLD
from editgan.methods.registry import INTERFACEGAN
from editgan.methods.smile import MASKGAN, ROOM, refined_name
from editgan.metrics import KID_SUBSETS, RESAMPLES
from editgan.scoring.table import Table, only


def markdown_report(
    results: Table,
    embedding: Table,
    areas: Areas,
    sweep: Table,
    trained: Mapping[str, Mapping[str, float]],
    facts: Mapping[str, Any],
) -> str:
    """table.md: quality of the judges, the embedding, the table of edits, the sweep, and explanations.

    Args:
        trained: metrics of the stages of the methods without embedding
        facts: what the template states about the experiment
    """
    plain, pasted = ({"results": only(results, pasted=p), "sweep": only(sweep, pasted=p)} for p in (False, True))
    refined = refined_name(facts["refine_steps"])
    improving = [name for name, found in trained.items() if found["still_improving"]]
    tables: dict[str, str] = {
        "embedding": embedding_table(embedding),
        "plain": table(plain["results"], improving),
        "pasted": table(pasted["results"]),
        "area": area_table(only(areas, pasted=False), refined),
        "area_to_interfacegan": area_table(only(areas, pasted=False), INTERFACEGAN),
        "area_pasted": area_table(only(areas, pasted=True), refined),
        "unit": sweep_table(at_unit_strength(plain["sweep"])),
        "sweep": sweep_table(plain["sweep"]),
        "sweep_pasted": sweep_table(pasted["sweep"]),
    }
    if trained:
        tables["matched"] = matched_identity(results, plain["sweep"])
        tables["matched_pasted"] = matched_identity(results, pasted["sweep"])
    published = None
    if facts["papers_data"]:
        published = {"table": published_table(results, facts), "differences": differences(results, facts)}
    constants = {"threshold": f"{SMILE_THRESHOLD:g}", "room": ROOM, "kid_subsets": KID_SUBSETS, "resamples": RESAMPLES}
    return rendered(
        "table.md" if facts["protocol"].faces else "attribute.md",
        tables=tables,
        verdict=verdict(results, areas, sweep, refined),
        improving=", ".join(map(title_of, improving)),
        UNFINISHED=UNFINISHED,
        published=published,
        maskgan_trained=MASKGAN in trained,
        **{name: without_counts(found) for name, found in trained.items()},
        **constants,
        **facts,
    )


def rendered(template: str, **values: Any) -> str:
    """A template with its values. A line of it that begins with spaces continues the one before."""
    pages = Environment(trim_blocks=True, undefined=StrictUndefined)
    pages.filters |= {"thousands": "{:,.0f}".format, "percent": lambda share: f"{100 * share:.1f} %"}
    source = re.sub(r"\n +", " ", Path(__file__).with_name(template).read_text())
    return pages.from_string(source).render(values).rstrip() + "\n"


def without_counts(metrics: Mapping[str, float]) -> dict[str, Any]:
    """Metrics without the sample counts in their names: `l1_val200` as `l1_val`, its count as `l1_val_count`."""
    plain: dict[str, Any] = {}
    for name, value in metrics.items():
        kind, _, rest = name.partition("_val")
        count = re.match(r"\d*", rest)[0]
        short = f"{kind}_val{rest.removeprefix(count)}" if count else name
        plain |= {short: value, f"{short}_count": count}
    return plain
