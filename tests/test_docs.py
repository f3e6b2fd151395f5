"""What the pages name exists: commands with their options, files, links. `make test-all` runs the commands, too."""

import re

import pytest
import yaml
from documents import FENCED, PAGES, SPAN, documented_commands
from typer.main import get_command

from editgan.cli.pictures import app
from editgan.config import STAGES
from editgan.runtime.environment import PROJECT_ROOT

TRACKED = ("editgan/", "flows/", "tests/", "benchmarks/", "docs/", "params/", "scripts/", "data/store", "baseline/")
FILE = re.compile(r"(?:[\w.-]+/)*[\w.-]+\.(?:py|yaml|md|png|ipynb|toml|txt)")
PLACEHOLDER = re.compile(r"\b[A-Z]{2,}\b")  # editgan/NAME/stage.py
OWN = ("params/mine", "params/edits/mine")  # what a user makes
LINK = re.compile(r"\]\(([^)\s]+)\)")


def options_of(words: list[str]) -> set[str]:
    return {word.split("=")[0] for word in words if word.startswith("--")}


@pytest.mark.parametrize("words", documented_commands(), ids=" ".join)
def test_command_and_its_options_exist(words):
    program, *rest = words
    if program == "make":
        assert re.search(rf"(?m)^{rest[0]}:", (PROJECT_ROOT / "Makefile").read_text())
    elif program == "editgan":
        command = get_command(app).commands[rest[0]]
        assert options_of(rest) <= {name for option in command.params for name in option.opts}
    elif program == "python" and rest[0] == "-m" and rest[1].split(".")[0] in ("editgan", "flows"):
        module = PROJECT_ROOT / rest[1].replace(".", "/")
        source = module.with_suffix(".py") if rest[1] != "editgan" else module / "__main__.py"
        assert all(f'"{option}"' in source.read_text() for option in options_of(rest))
    elif program == "python" and rest[0].endswith(".py"):
        text = (PROJECT_ROOT / rest[0]).read_text()
        assert all(f'"{option}"' in text for option in options_of(rest))


def test_commands_are_found():
    found = documented_commands()
    assert ["make", "demo"] in found and ["editgan", "embed", "head.png"] in found and len(found) > 30


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_and_links_exist(page):
    text = page.read_text()
    for span in SPAN.findall(FENCED.sub("", text)):
        for name in FILE.findall(span):
            if name.startswith(TRACKED) and not PLACEHOLDER.search(name):
                assert (PROJECT_ROOT / name).exists() or name.startswith(OWN), name
    for link in LINK.findall(text):
        target, _, anchor = link.partition("#")
        if "://" in target:
            continue
        path = (page.parent / target).resolve() if target else page
        assert path.exists(), link
        if anchor and path.suffix == ".md":
            titles = re.findall(r"(?m)^#+ (.*)$", path.read_text())
            anchors = {re.sub(r"[^\w -]", "", title).strip().lower().replace(" ", "-") for title in titles}
            assert anchor in anchors, link


def test_every_stage_is_in_the_readme_and_in_dvc():
    text = (PROJECT_ROOT / "README.md").read_text()
    stages = yaml.safe_load((PROJECT_ROOT / "dvc.yaml").read_text())["stages"]
    assert all(stage in text and stage in stages for stage in STAGES)
