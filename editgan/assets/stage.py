"""Stage `assets`: fetch, verify and convert the pretrained networks."""

import os
from collections.abc import Callable
from pathlib import Path

from editgan.assets.convert import CONVERTERS
from editgan.assets.fetch import fetch_archives, read_members, supplied_by_hand
from editgan.assets.load import build, fill
from editgan.assets.manifest import NETWORKS, Archive, Network
from editgan.assets.reference import load_ir_se50, load_reference_inception
from editgan.config import flat_keys
from editgan.errors import UserError
from editgan.runtime.environment import home_project
from editgan.runtime.stage import StageContext
from editgan.weights import save_tensors, write_bytes, write_json

BY_HAND = Path("data/assets")
CACHE = Path(".cache/assets")
CACHE_VARIABLE = "EDITGAN_ASSET_CACHE"  # overrides the cache folder


def run(context: StageContext) -> None:
    """Write one safetensors file per network, `sources.md` and `metrics.json`.

    Raises:
        UserError: lists every network that could not be made, why, and what needs it; the others are written.
    """
    check_reference_networks(context)
    home = home_project(context.root)  # downloads are shared by all checkouts
    cache = Path(os.environ.get(CACHE_VARIABLE) or home / CACHE)
    total = len({network.archive for network in NETWORKS.values()}) + len(NETWORKS)
    done = 0

    def progress(message: str) -> None:
        nonlocal done
        done += 1
        context.run.progress(done, total, "files", message)

    metrics = make_networks(context.out, cache=cache, by_hand=home / BY_HAND, progress=progress)
    write_json(context.out / "metrics.json", metrics)
    context.run.log_metrics(flat_keys(metrics))
    context.run.log_file(context.out / "sources.md")


def make_networks(
    out: Path, *, cache: Path, by_hand: Path, progress: Callable[[str], None] = lambda message: None
) -> dict[str, dict[str, float]]:
    """Fetch and convert every network of the manifest into `out`.

    Returns:
        millions of parameters and megabytes of each network
    """
    missing = [name for name, network in NETWORKS.items() if not supplied_by_hand(network, by_hand)]
    wanted = dict.fromkeys(NETWORKS[name].archive for name in missing)
    fetched = fetch_archives(wanted, cache=cache, by_hand=by_hand, progress=progress)
    metrics, problems = {}, {}
    for name, network in NETWORKS.items():
        try:
            archive = fetched[network.archive].result() if name in missing else None
            metrics[name] = make_network(name, network, archive, out=out, by_hand=by_hand)
            progress(f"{name} converted")
        except UserError as error:
            problems[name] = error
    if problems:
        raise UserError(describe(problems, by_hand))
    write_bytes(out / "sources.md", sources_table().encode())
    return metrics


def make_network(name: str, network: Network, archive: Path | None, *, out: Path, by_hand: Path) -> dict[str, float]:
    """Convert one network, load it once to check that it fits, and write it."""
    tensors = CONVERTERS[name](read_members(network, archive, by_hand=by_hand))
    fill(build(name), tensors)
    provenance = {
        "name": name,
        "source": source(network.archive),
        "archive_sha256": network.archive.sha256,
        "files": network.members,
        "licence": network.licence,
        "trained_on": network.trained_on,
    }
    path = save_tensors(out / f"{name}.safetensors", tensors, provenance)
    parameters = sum(tensor.numel() for tensor in tensors.values())
    return {"parameters_millions": round(parameters / 1e6, 4), "megabytes": round(path.stat().st_size / 1e6, 2)}


def source(archive: Archive) -> str:
    """Registry, package and version in one line."""
    return f"{archive.registry}: {archive.package} {archive.version}"


def sources_table() -> str:
    """Every network with its source, licence and training data, as Markdown."""
    lines = ["| network | source | licence | trained on | needed for |", "|---|---|---|---|---|"]
    for name, network in NETWORKS.items():
        cells = (name, source(network.archive), network.licence, network.trained_on, network.needed_for)
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def describe(problems: dict[str, UserError], by_hand: Path) -> str:
    """List the missing networks, how to supply them, and what works without them."""
    lines = [f"{len(problems)} of {len(NETWORKS)} pretrained networks could not be made:"]
    for name, error in problems.items():
        network = NETWORKS[name]
        files = " and ".join(member.rsplit("/", 1)[-1] for member in network.members)
        lines += [
            f"- {name}: {error}",
            f"  by hand: put {network.archive.file} ({source(network.archive)}) or {files} from it into {by_hand}/",
            f"  needed for: {network.needed_for}",
        ]
    whole = [name for name in NETWORKS if name not in problems]
    lines.append(f"Available, with everything that needs only these: {', '.join(whole) or 'none'}")
    return "\n".join(lines)


def check_reference_networks(context: StageContext) -> None:
    """Load the user's own reference networks once, so a wrong file is reported now and not hours later."""
    params = context.params.assets
    for name, load in (("reference_inception", load_reference_inception), ("ir_se50", load_ir_se50)):
        path, sha256 = getattr(params, name), getattr(params, f"{name}_sha256")
        if path is not None:
            load(path, sha256)
            print(f"{path}: {name}, sha256 {sha256}")
