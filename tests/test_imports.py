"""The layout's promises, read from the source: imports run one way, tools are imported in one place, names, sizes."""

import ast
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from editgan.config import STAGES
from editgan.environment import PROJECT_ROOT

MODULES = sorted([*(PROJECT_ROOT / "editgan").rglob("*.py"), *(PROJECT_ROOT / "flows").rglob("*.py")])
FOUNDATION = {
    "_compat", "config", "damage", "environment", "errors", "flow_record", "framing", "graph", "holders", "images",
    "metrics", "optimizers", "process", "progress", "section", "tracking", "training", "weights",
}  # fmt: skip


def dotted(path: Path) -> str:
    relative = path.relative_to(PROJECT_ROOT).as_posix()
    return relative.removesuffix(".py").replace("/", ".").removesuffix(".__init__")


TREES = {dotted(path): ast.parse(path.read_text()) for path in MODULES}
STAGE_MODULES = {f"editgan.{stage}.stage" for stage in STAGES}


@cache
def imported(module: str) -> frozenset[str]:
    """Full names of what a module imports anywhere in it."""
    names = set()
    for node in ast.walk(TREES[module]):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            names |= {base} | {f"{base}.{alias.name}" for alias in node.names}
    return frozenset(names)


def own(module: str) -> set[str]:
    """The project's modules (not names inside them) that a module imports."""
    return {name for name in imported(module) if name in TREES}


def roots(module: str) -> set[str]:
    return {name.split(".")[0] for name in imported(module)}


def part(module: str) -> str:
    """`editgan.generator.layers` -> generator; `editgan.images` -> images."""
    return module.split(".")[1] if "." in module else ""


def importers(tool: str) -> set[str]:
    return {module for module in TREES if tool in roots(module)}


def test_mlflow_is_imported_by_tracking_and_registry_alone():
    assert importers("mlflow") == {"editgan.tracking", "editgan.registry"}


def test_prefect_is_imported_by_flows_alone():
    found = importers("prefect")
    assert found and all(module.startswith("flows") for module in found), found


def test_flows_do_not_compute_and_stages_do_not_know_flows():
    for tool in ("torch", "torchvision", "lpips", "numpy", "dvc"):
        assert not [module for module in importers(tool) if module.startswith("flows")], tool
    assert not [module for module in importers("flows") if module.startswith("editgan")]


def test_flows_bring_no_torch_with_them():
    """Not even through the project's own modules: a flow starts in the time Prefect needs."""
    code = "import sys, flows.pipeline, flows.serve; sys.exit('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT_ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr or "torch was imported"


def test_modules_are_short():
    assert not {path.name: n for path in MODULES if (n := len(path.read_text().splitlines())) > 400}


def test_modules_are_named_for_what_they_do():
    parts = {name for module in TREES for name in module.split(".")}
    assert not parts & {"utils", "util", "common", "helpers", "helper", "misc"}


def test_foundation_never_imports_stages():
    """config, images, weights ... carry everything else; config alone loads the stages' params classes, by name."""
    for module in TREES:
        if module.startswith("editgan.") and part(module) in FOUNDATION:
            assert {part(name) for name in own(module)} - {""} <= FOUNDATION, module


def test_nothing_imports_an_entry_point():
    """`editgan/STAGE/stage.py` stands on top: it imports, nothing imports it; only entry points know the context."""
    for module in TREES:
        assert not own(module) & (STAGE_MODULES | {"editgan.__main__"}), module
        if module not in STAGE_MODULES | {"editgan.__main__"}:
            assert "editgan.stage" not in own(module), module


def test_networks_know_nothing_of_their_training():
    """training, inversion, editing -> networks -> images, config: a network can be used without what trains it."""
    networks = {
        "generator.generator", "generator.discriminator", "generator.layers", "generator.principal_components",
        "encoder.encoder", "segmentation.ensemble", "segmentation.pixels", "judges.classifier",
    }  # fmt: skip
    below = {"", "editgan", "config", "errors", "framing", "images", "weights"}
    for name in networks:
        assert {module.removeprefix("editgan.") for module in own(f"editgan.{name}")} <= networks | below, name


def test_stage_packages_form_no_cycle():
    """They import one another in one direction only, so that each can be read and tested after the last."""
    edges = {stage: set() for stage in STAGES}
    for module in set(TREES) - STAGE_MODULES:
        if module.startswith("editgan.") and part(module) in edges:
            edges[part(module)] |= {part(name) for name in own(module)} & set(edges) - {part(module)}
    done: list[str] = []
    while len(done) < len(edges):
        free = [stage for stage in edges if stage not in done and edges[stage] <= set(done)]
        assert free, f"cycle among { ({s: e - set(done) for s, e in edges.items() if s not in done}) }"
        done += free


def test_params_classes_import_the_section_alone():
    for stage in STAGES:
        assert own(f"editgan.{stage}.params") <= {"editgan.section"}, stage


def test_no_machine_paths_and_no_registry_hosts():
    tracked = subprocess.run(["git", "ls-files"], cwd=PROJECT_ROOT, capture_output=True, text=True, check=True).stdout
    folders, hosts = r"(?<![\w.])/(home|root|work|opt|mnt|Users)/\w", r"pythonhosted\.org|registry\.npmjs|pypi\.org"
    pattern = re.compile(f"{folders}|{hosts}")
    found = []
    for name in tracked.split():
        path = PROJECT_ROOT / name
        if path.suffix not in {".py", ".yaml", ".md", ".toml", ".txt", ".sh", ".cfg", ""} or not path.is_file():
            continue
        for number, line in enumerate(path.read_text(errors="ignore").splitlines(), 1):
            if pattern.search(line) and "folders, hosts =" not in line:
                found.append(f"{name}:{number}: {line.strip()[:100]}")
    assert not found, "\n".join(found)


def test_no_pickle_is_trusted():
    """torch.load only with weights_only=True, and neither pickle.load nor allow_pickle=True."""
    for module, tree in TREES.items():
        for node in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
            called = ast.unparse(node.func)
            options = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
            assert called != "torch.load" or options.get("weights_only") == "True", module
            assert called not in {"pickle.load", "pickle.loads"}, module
            assert options.get("allow_pickle") != "True", module


@pytest.mark.parametrize("script", sorted(path.name for path in (PROJECT_ROOT / "benchmarks").glob("*.py")))
def test_every_benchmark_starts(script):
    """Alone, in a process of its own: packages that import torchvision may come in any order."""
    command = [sys.executable, PROJECT_ROOT / "benchmarks" / script, "--help"]
    done = subprocess.run(command, cwd=PROJECT_ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and "usage:" in done.stdout, done.stderr
