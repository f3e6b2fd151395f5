"""The commands that README.md and the pages of docs/ and docs/results/ name."""

import re
import shlex

from editgan.runtime.environment import PROJECT_ROOT

PAGES = (PROJECT_ROOT / "README.md", *sorted((PROJECT_ROOT / "docs").rglob("*.md")))
PROGRAMS = ("make", "editgan", "python", "dvc", "mlflow", "prefect")
FENCED = re.compile(r"```.*?\n(.*?)```", re.DOTALL)
SPAN = re.compile(r"`([^`]+)`")


def documented_commands() -> list[list[str]]:
    """Words of every command that a page names in a fenced block or between backticks, in the order of the pages."""
    found = []
    for page in PAGES:
        text = page.read_text()
        lines = [line for block in FENCED.findall(text) for line in block.splitlines()]
        lines += [" ".join(span.split()) for span in SPAN.findall(FENCED.sub("", text))]
        for line in lines:
            for part in line.split(" && "):
                if part.split(" ")[0] in PROGRAMS and " " in part:
                    words = shlex.split(part, comments=True)
                    if words not in found:
                        found.append(words)
    return found
