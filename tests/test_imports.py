"""The layout's promises, read from the source: imports run one way, tools are imported in one place, names, sizes."""

import ast
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

from editgan.config import STAGES, package_of, section_class
from editgan.runtime.environment import PROJECT_ROOT

MODULES = sorted(
    path for folder in ("editgan", "flows", "benchmarks") for path in (PROJECT_ROOT / folder).rglob("*.py")
)
# Imports run one way: a package imports those after it in this list, and itself. `root` is the package's own modules.
ORDER = (
    ("cli", "flows", "benchmarks"),
    ("studio",),
    ("report",),
    ("benchmark",),
    ("scoring", "samples"),
    ("methods", "editor"),
    ("editing",),
    ("segmentation",),
    ("encoder",),
    ("generator", "judges"),
    ("data",),
    ("assets",),
    ("runtime",),
    ("root",),
)
RANK = {package: rank for rank, packages in enumerate(ORDER) for package in packages}
ENTRIES = {"editgan.__main__"}  # starts stages


def dotted(path: Path) -> str:
    relative = path.relative_to(PROJECT_ROOT).as_posix()
    return relative.removesuffix(".py").replace("/", ".").removesuffix(".__init__")


TREES = {dotted(path): ast.parse(path.read_text()) for path in MODULES}
SCRIPTS = {path.stem for path in (PROJECT_ROOT / "benchmarks").glob("*.py")}  # import each other by these names
STAGE_MODULES = {f"{package_of(stage)}.stage" for stage in STAGES}


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
    """`editgan.generator.layers` -> generator; `editgan.images` -> root; `flows.stages` -> flows."""
    first, *rest = module.split(".")
    return first if first != "editgan" else rest[0] if rest and rest[0] in RANK else "root"


def importers(tool: str) -> set[str]:
    return {module for module in TREES if tool in roots(module)}


def test_mlflow_is_imported_by_tracking_and_registry_alone():
    assert importers("mlflow") == {"editgan.runtime.tracking", "editgan.editor.registry"}


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


def test_imports_run_one_way():
    """config alone reaches up: it loads the stages' params classes, by name."""
    assert not [name for module in TREES for name in roots(module) & SCRIPTS if part(module) != "benchmarks"]
    wrong = [
        f"{module} imports {name}"
        for module in TREES
        for name in own(module)
        if RANK[part(name)] < RANK[part(module)] and module not in ENTRIES
    ]
    assert not wrong, "\n".join(wrong)


def test_every_package_has_its_place_and_the_root_is_small():
    folders = {path.name for path in (PROJECT_ROOT / "editgan").iterdir() if (path / "__init__.py").exists()}
    assert folders | {"flows", "benchmarks", "root"} == set(RANK)
    assert len(list((PROJECT_ROOT / "editgan").glob("[!_]*.py"))) <= 9


def test_nothing_imports_an_entry_point():
    """`editgan/STAGE/stage.py` stands on top: only benchmarks import it, and only entry points know the context."""
    for module in (module for module in TREES if part(module) != "benchmarks"):
        assert not own(module) & (STAGE_MODULES | {"editgan.__main__"}), module
        if module not in STAGE_MODULES | {"editgan.__main__"}:
            assert "editgan.runtime.stage" not in own(module), module


def test_networks_know_nothing_of_their_training():
    """training, inversion, editing -> networks -> images, config: a network can be used without what trains it."""
    networks = {
        "generator.generator", "generator.discriminator", "generator.layers",
        "encoder.encoder", "segmentation.ensemble", "segmentation.pixels", "judges.classifier",
    }  # fmt: skip
    below = {"", "editgan", "config", "errors", "images", "weights"}
    for name in networks:
        assert {module.removeprefix("editgan.") for module in own(f"editgan.{name}")} <= networks | below, name


def test_params_classes_import_the_section_alone():
    for stage in STAGES:
        assert own(section_class(stage).__module__) <= {"editgan.config"}, stage


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


def test_every_benchmark_starts():
    """In one process: torch takes seconds to import. `--help` imports everything a script imports at its top."""
    files = sorted((PROJECT_ROOT / "benchmarks").glob("*.py"))
    scripts = [str(path) for path in files if "__main__" in path.read_text()]  # not what they share
    done = subprocess.run([sys.executable, "-c", HELP, *scripts], cwd=PROJECT_ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.count("usage:") == len(scripts), done.stderr


HELP = """
import runpy, sys
sys.path.insert(0, "benchmarks")
for script in sys.argv[1:]:
    sys.argv = [script, "--help"]
    try:
        runpy.run_path(script, run_name="__main__")
    except SystemExit as end:
        assert not end.code, script
"""
