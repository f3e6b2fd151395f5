"""What the pages name exists: commands with their options, files, links. `make test-all` runs the commands, too."""

import importlib
import re
from functools import cache
from pathlib import Path

import pytest
import typer
import yaml
from documents import FENCED, PAGES, SPAN, documented_commands
from typer.main import get_command

from editgan import __main__ as entry
from editgan.cli.pictures import app
from editgan.config import STAGES
from editgan.runtime.environment import PROJECT_ROOT

TRACKED = ("editgan/", "flows/", "tests/", "benchmarks/", "docs/", "params/", "scripts/", "data/store", "baseline/")
FILE = re.compile(r"(?:[\w.-]+/)*[\w.-]+\.(?:py|yaml|md|png|jpg|ipynb|toml|txt)")
FOLDER = re.compile(r"(?:[\w.-]+/)+(?= |$)")
PLACEHOLDER = re.compile(r"\b[A-Z]{2,}\b")  # editgan/NAME/stage.py
OWN = ("params/mine", "params/edits/mine", "params/lizards", "params/edits/lizards")  # what a user makes
LINK = re.compile(r"\]\(([^)\s]+)\)")
OPTION = re.compile(r"""add_argument\(\s*["'](--[\w-]+)["']""")


def options_of(words: list[str]) -> set[str]:
    return {word.split("=")[0] for word in words if word.startswith("--")}


def editgan_options(words: list[str]) -> set[str]:
    """Options of the command that the words begin with, `train status` among them; KeyError where there is none."""
    command = get_command(app)
    for word in words:
        if not hasattr(command, "commands"):
            break
        command = command.commands[word]
    return {name for option in command.params for name in option.opts}


def script_options(source: Path) -> set[str]:
    """Options that a script declares, or that it takes over from those that share them."""
    text = source.read_text()
    if "trained_command_line" in text:
        text += (source.parent / "measuring.py").read_text()
    return set(OPTION.findall(text)) | {"--help"}


@cache
def flow_options(module: str) -> set[str]:
    """Options of a flow's command line."""
    app_of_flow = typer.Typer()
    app_of_flow.command()(importlib.import_module(module).command)
    return single_command_options(app_of_flow)


def single_command_options(program: typer.Typer) -> set[str]:
    return {option for parameter in get_command(program).params for option in parameter.opts} | {"--help"}


def fault_of(words: list[str]) -> str:
    """What of a documented command does not exist; empty if all of it does."""
    program, *rest = words
    unknown: set[str] = set()
    if program == "make":
        targets = re.findall(r"(?m)^([\w-]+):", (PROJECT_ROOT / "Makefile").read_text())
        unknown = {word for word in rest if not word.startswith("-") and "=" not in word} - set(targets)
    elif program == "editgan":
        try:
            unknown = options_of(rest) - editgan_options(rest)
        except KeyError as missing:
            return f"no command {missing}"
    elif program == "python" and rest[0] == "-m" and rest[1].split(".")[0] in ("editgan", "flows"):
        module = PROJECT_ROOT / rest[1].replace(".", "/")
        source = module / "__main__.py" if module.is_dir() else module.with_suffix(".py")
        if not source.exists():
            return f"no module {rest[1]}"
        known = flow_options(rest[1]) if rest[1].startswith("flows") else single_command_options(entry.app)
        unknown = options_of(rest) - known | stages_in(rest) - {*STAGES, "STAGE"}
    elif program == "python" and rest[0].endswith(".py"):
        source = PROJECT_ROOT / rest[0]
        if not source.exists():
            return f"no file {rest[0]}"
        unknown = options_of(rest) - script_options(source)
    elif program == "python" and not rest[0].startswith("-"):
        return f"no program {rest[0]}"
    return " ".join(sorted(unknown))


def stages_in(words: list[str]) -> set[str]:
    """Stages that a command of this project's modules names."""
    if words[1] == "editgan":
        return set(words[2:3])
    found, listed = set(), False
    for word in words:
        listed = word in ("--stages", "--force") if word.startswith("--") else listed
        if listed and not word.startswith("--"):
            found.add(word)
    return found


def prose_of(text: str) -> str:
    return FENCED.sub("", text)


def anchors_of(text: str) -> set[str]:
    """Anchors of the headings of a page as GitHub makes them; a heading that is repeated gets -1, -2."""
    found: dict[str, int] = {}
    for title in re.findall(r"(?m)^#+ (.*)$", prose_of(text)):
        title = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", title)
        anchor = re.sub(r"[^\w -]", "", title).strip().lower().replace(" ", "-")
        found[anchor] = found.get(anchor, -1) + 1
    return {f"{anchor}-{number}" if number else anchor for anchor, last in found.items() for number in range(last + 1)}


def dead_links(text: str, page: Path) -> list[str]:
    """Relative links of a page's text whose file or heading does not exist."""
    dead = []
    for link in LINK.findall(prose_of(text)):
        target, _, anchor = link.partition("#")
        if "://" in target or target.startswith("mailto:"):
            continue
        path = (page.parent / target).resolve() if target else page
        if not path.exists():
            dead.append(link)
        elif anchor and path.suffix == ".md" and anchor not in anchors_of(text if path == page else path.read_text()):
            dead.append(link)
    return dead


def missing_files(text: str) -> list[str]:
    """Files and folders of this repository that a text names between backticks and that do not exist."""
    named = [name for span in SPAN.findall(prose_of(text)) for name in FILE.findall(span) + FOLDER.findall(span)]
    return [
        name
        for name in named
        if name.startswith(TRACKED) and not PLACEHOLDER.search(name) and not name.startswith(OWN)
        if not (PROJECT_ROOT / name).exists()
    ]


@pytest.mark.parametrize("words", documented_commands(), ids=" ".join)
def test_command_and_its_options_exist(words):
    assert fault_of(words) == ""


def test_commands_are_found():
    found = documented_commands()
    assert ["make", "demo"] in found and ["editgan", "embed", "head.png"] in found and len(found) > 30
    assert any(words[:2] == ["python", "benchmarks/labels.py"] for words in found), "docs/results/ is read, too"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_and_links_exist(page):
    text = page.read_text()
    assert dead_links(text, page) == []
    assert missing_files(text) == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_pages_of_results_name_what_makes_them(page):
    """Within the first lines, before the first table: a script, a command or a stage."""
    if page.parent.name == "results":
        assert re.search(r"`python |python -m|make demo", page.read_text().split("\n|")[0]), page


@pytest.mark.parametrize(
    "words",
    [
        "make nothing",
        "editgan nothing",
        "editgan train nothing",
        "editgan apply head.png --nothing",
        "editgan train status --nothing",
        "python -m flows.nothing",
        "python -m flows.pipeline --nothing",
        "python -m flows.pipeline --stages sweep",
        "python -m editgan sweep",
        "python -m editgan data --nothing",
        "python benchmarks/nothing.py",
        "python benchmarks/labels.py --nothing",
    ],
)
def test_a_command_that_does_not_exist_is_told(words):
    assert fault_of(words.split())


def test_a_dead_link_is_told():
    page = PROJECT_ROOT / "docs" / "data.md"
    text = "# A `b`: c\n[1](nothing.md) [2](#nothing) [3](#a-b-c) [4](data.md) [5](../README.md#nothing) [6](https://x.org)"
    assert dead_links(text, page) == ["nothing.md", "#nothing", "../README.md#nothing"]
    named = "`docs/nothing.md`, `editgan/nothing/`, `editgan/NAME/`, `params/mine.yaml`, `docs/data.md`"
    assert missing_files(named) == ["docs/nothing.md", "editgan/nothing/"]


def test_every_stage_is_in_the_readme_and_in_dvc():
    text = (PROJECT_ROOT / "README.md").read_text()
    stages = yaml.safe_load((PROJECT_ROOT / "dvc.yaml").read_text())["stages"]
    assert all(stage in text and stage in stages for stage in STAGES)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_runs_with_assets_of_their_own_make_them_before_a_generator(page):
    """In their checkout, stage `generator` finds none: their parameters of `assets` are not those of the project."""
    for run, stages in re.findall(r"flows\.pipeline --params (params/\w+\.yaml) --stages ([\w ]+)", page.read_text()):
        if run in OWN or not (PROJECT_ROOT / run).is_file() or "generator" not in stages.split():
            continue
        own = yaml.safe_load((PROJECT_ROOT / run).read_text()).get("assets")
        assert not own or "assets" in stages.split(), f"{run}: {stages}"
