"""Take the pictures of docs/studio.md with a real browser: each step of the walk-through, and the animated picture.

    python scripts/studio_film.py [--to docs] [--outputs outputs]

Needs the studio and Playwright (`make test-all` installs both) and Chromium. Look at the
pictures before committing them.
"""

import argparse
import io
import sys
from pathlib import Path

from PIL import Image

PROJECT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(PROJECT), str(PROJECT / "benchmarks")]

from studio import Studio, browser, running, smile  # noqa: E402

from editgan.editor.editor import Editor  # noqa: E402

SEED, HEAD, OTHER_SEED = 53, 9, 31
SHOWN = 860  # px, width of the pictures
FILM_WIDTH, FILM_MS, LAST_MS = 760, 700, 2600


def shot(person: Studio, whole: bool = False) -> Image.Image:
    if whole:
        person.page.evaluate("scrollTo(0, 0)")
    return Image.open(io.BytesIO(person.page.screenshot(full_page=whole))).convert("RGB")


def keep(picture: Image.Image, path: Path, width: int = SHOWN) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    size = (width, picture.height * width // picture.width)
    picture.resize(size, Image.Resampling.LANCZOS).save(path, quality=82, optimize=True)


def side_by_side(pictures: list[Image.Image], gap: int = 16) -> Image.Image:
    height = max(one.height for one in pictures)
    sheet = Image.new("RGB", (sum(one.width + gap for one in pictures) - gap, height), (128, 128, 128))
    left = 0
    for one in pictures:
        sheet.paste(one, (left, 0))
        left += one.width + gap
    return sheet


def walk(person: Studio, strokes: list, to: Path) -> list[Image.Image]:
    """Do what docs/studio.md describes; returns the frames of the film."""
    page, film = person.page, []
    page.locator("#heads button").nth(HEAD).click()
    person.until_said("represent")
    page.wait_for_timeout(1000)
    keep(shot(person).crop((0, 0, 1400, 760)), to / "studio" / "face.jpg")
    person.seed(SEED)
    person.to_paint()
    film.append(shot(person))
    for part, points in strokes:
        person.stroke(part, points)
        film.append(shot(person))
    page.wait_for_timeout(8000)  # until the last stroke has arrived
    keep(shot(person, whole=True), to / "studio" / "paint.jpg")
    page.locator("#optimise").click()
    said = ""
    while "repainted" not in person.status():
        if person.status() != said and "step" in person.status():
            said = person.status()
            film.append(shot(person))
        page.wait_for_timeout(200)
    page.wait_for_timeout(5000)
    film.append(shot(person))
    keep(shot(person, whole=True), to / "studio" / "optimised.jpg")
    page.locator("#edit_name input, #edit_name textarea").first.fill("my_smile")
    page.locator("#keep_edit").click()
    person.until_said("Kept as")
    person.tab("3 Vectors")
    page.wait_for_timeout(1500)
    for strength in (0.5, 1.3):
        person.slide("kept_0", strength)
        person.until_said(f"my_smile {strength}")
        film.append(shot(person))
    person.slide("slider_fuller_lips_mean", 0.5)
    person.until_said("fuller_lips_mean")
    page.locator("#refine").click()
    person.until_said("Refined")
    page.wait_for_timeout(1500)
    film.append(shot(person))
    keep(film[-1], to / "studio" / "vectors.jpg")
    person.tab("4 Save")
    page.wait_for_selector("#take_session:not([disabled])")
    page.wait_for_timeout(1500)
    keep(shot(person).crop((0, 0, 1400, 620)), to / "studio" / "save.jpg")
    return film


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--to", type=Path, default=Path("docs"))
    parser.add_argument("--outputs", type=Path, default=Path("outputs"))
    options = parser.parse_args()
    editor = Editor.load(options.outputs)
    editor.sample([SEED])
    strokes = smile(editor.segment()[0], editor.class_names)
    with running("--outputs", str(options.outputs)) as (address, _), browser() as chromium:
        film = walk(Studio(chromium, address), strokes, options.to)
        dark = Studio(chromium, address, scheme="dark")
        dark.seed(OTHER_SEED)
        dark.to_paint()
        keep(shot(dark), options.to / "studio" / "dark.jpg")
        narrow = Studio(chromium, address, 390, 844)
        narrow.seed(OTHER_SEED)
        tabs = [shot(narrow, whole=True)]
        narrow.to_paint()
        tabs.append(shot(narrow, whole=True))
        for tab in ("3 Vectors", "4 Save"):
            narrow.tab(tab)
            narrow.page.wait_for_timeout(2000)
            tabs.append(shot(narrow, whole=True))
        keep(side_by_side(tabs), options.to / "studio" / "narrow.jpg")
    size = (FILM_WIDTH, film[0].height * FILM_WIDTH // film[0].width)
    frames = [one.resize(size, Image.Resampling.LANCZOS) for one in film]
    times = [FILM_MS] * (len(frames) - 1) + [LAST_MS]
    frames[0].save(
        options.to / "studio.webp",
        save_all=True,
        append_images=frames[1:],
        duration=times,
        loop=0,
        quality=70,
        method=6,
    )


if __name__ == "__main__":
    main()
