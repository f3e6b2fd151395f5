"""The studio in a browser: milliseconds from a slider to the picture, memory after many edits, a session repeated.

    python benchmarks/studio.py [--outputs outputs] [--moves 20] [--edits 100] [--optimisations 100]

Needs the studio (`make studio`) and Chromium in /usr/bin. The reference of the last row is `editgan apply --session`.
"""

import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
from measuring import command_line, header, row
from PIL import Image, ImageChops

from editgan.images import read_image

CHROMIUM = Path("/usr/bin/chromium")
FLAGS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip
PATIENCE = 240_000  # ms that the browser waits, also on a busy computer
# Notes when the pointer leaves a slider and when the new picture is drawn.
WATCH = """() => {
    window.times = [];
    window.released = null;
    addEventListener("pointerup", () => { window.released = performance.now(); }, true);
    new MutationObserver(() => {
        const image = document.querySelector("#picture figure:last-child img");
        if (image && window.released !== null) image.decode().then(() => requestAnimationFrame(() => {
            window.times.push(performance.now() - window.released);
        }));
    }).observe(document.querySelector("#picture"), {childList: true, subtree: true, attributes: true});
}"""


# Whether what is said of the painting changed, and is not the time that its handler takes.
PAINTED = """html => {
    const said = document.querySelector("#wanted");
    const text = said.innerText.trim();
    return said.innerHTML !== html && text.includes("are painted") && !/^[0-9.]+s/.test(text);
}"""


@contextmanager
def running(*options: str) -> Iterator[tuple[str, psutil.Process]]:
    """`editgan studio` in a process of its own: its address and process."""
    command = [sys.executable, "-u", "-m", "editgan.cli.pictures", "studio", *options]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        for line in server.stdout:
            if "http://" in line:
                yield "http://" + line.split("http://")[1].split()[0], psutil.Process(server.pid)
                return
        raise RuntimeError("the studio did not start")
    finally:
        server.terminate()
        server.wait()


@contextmanager
def browser() -> Iterator[Any]:
    """Chromium without a window."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as tool:
        chromium = tool.chromium.launch(executable_path=str(CHROMIUM), args=[*FLAGS])
        try:
            yield chromium
        finally:
            chromium.close()


class Studio:
    """A person at the page."""

    def __init__(self, chromium: Any, address: str, width: int = 1400, height: int = 1000, scheme: str = "light"):
        self.context = chromium.new_context(
            viewport={"width": width, "height": height}, color_scheme=scheme, accept_downloads=True,
            has_touch=width < 600,
        )  # fmt: skip
        self.page, self.address, self.foreign, self.faults = self.context.new_page(), address, [], []
        self.page.set_default_timeout(PATIENCE)
        self.page.on("request", self._asked)
        self.page.on("pageerror", lambda fault: self.faults.append(str(fault)))
        self.page.goto(address)
        self.page.wait_for_selector("#picture img")

    def _asked(self, request: Any) -> None:
        if not request.url.startswith((self.address, "data:", "blob:")):
            self.foreign.append(request.url)

    def status(self) -> str:
        return self.page.locator("#status").inner_text()

    def until_said(self, text: str) -> str:
        """Wait until the line below the picture contains a text."""
        self.page.wait_for_function("text => document.querySelector('#status').innerText.includes(text)", arg=text)
        return self.status()

    def picture(self) -> str:
        """The picture as a data URI."""
        return self.page.locator("#picture figure:last-child img").get_attribute("src")

    def tab(self, name: str) -> None:
        self.page.get_by_role("tab", name=name).click()

    def seed(self, number: int) -> None:
        self.tab("1 Picture")
        self.page.get_by_label("Seed").fill(str(number))
        self.page.get_by_role("button", name="Show this seed").click()
        self.until_said(f"Seed {number}.")

    def to_paint(self) -> None:
        """Open the tab with the painting area, and wait until it shows the picture."""
        self.tab("2 Paint")
        self.page.wait_for_selector("#canvas canvas")
        self.page.wait_for_function("() => document.querySelector('#wanted').innerText.includes('painted')")
        self.page.wait_for_timeout(3000)
        self.page.locator("#canvas").scroll_into_view_if_needed()

    def stroke(self, part: str, points: Sequence[tuple[float, float]]) -> None:
        """Paint with the mouse; points are shares (x, y) of the picture."""
        self.page.locator("#parts label", has_text=part).click()
        self.page.wait_for_timeout(1500)
        left, top, side = self._drawn()
        (x, y), *rest = [(left + x * side, top + y * side) for x, y in points]
        before = self.page.locator("#wanted").inner_html()
        self.page.mouse.move(x, y)
        self.page.mouse.down()
        for x, y in rest:
            self.page.mouse.move(x, y, steps=2)
        self.page.mouse.up()
        self.page.wait_for_function(PAINTED, arg=before)

    def _drawn(self) -> tuple[float, float, float]:
        """left, top and side of the picture in the painting area, which shows it as large as it fits, centred."""
        box = self.page.locator("#canvas canvas").first.bounding_box()
        shown = self.page.locator("#canvas").get_by_text("%").first.inner_text()
        side = 512 * float(shown.rstrip("%")) / 100
        return box["x"] + (box["width"] - side) / 2, box["y"] + (box["height"] - side) / 2, side

    def slide(self, name: str, value: float) -> None:
        """Drag the slider of a vector to a value in -2..2."""
        handle = self.page.locator(f"#{name} input[type=range]")
        handle.scroll_into_view_if_needed()
        box = handle.bounding_box()
        now = float(handle.input_value())
        y, margin = box["y"] + box["height"] / 2, 8
        place = lambda at: box["x"] + margin + (at + 2) / 4 * (box["width"] - 2 * margin)  # noqa: E731
        self.page.mouse.move(place(now), y)
        self.page.mouse.down()
        self.page.mouse.move(place(value), y, steps=3)
        self.page.mouse.up()

    def download(self, kind: str) -> Path:
        """Press a button of the last tab and return the file."""
        with self.page.expect_download() as waiting:
            self.page.locator(f"#take_{kind}").click()
        path = Path(tempfile.mkdtemp()) / waiting.value.suggested_filename
        waiting.value.save_as(path)
        return path


def smile(mask: Any, names: Sequence[str]) -> list[tuple[str, list[tuple[float, float]]]]:
    """Strokes of a wide smile over the mouth of a mask [H, W]: part and points, as shares (x, y) of the side."""
    lips = [names.index(name) for name in ("upper_lip", "lower_lip", "mouth_interior")]
    ys, xs = (mask[..., None] == mask.new_tensor(lips)).any(-1).nonzero().T
    side, left, right = mask.shape[-1], float(xs.min()), float(xs.max()) + 1
    x, y, half = (left + right) / 2, float(ys.min() + ys.max() + 1) / 2, 1.55 * (right - left) / 2
    unit = side / 64
    lines = (("upper lip", -0.4, 2.3, 1.0), ("lower lip", 3.2, 4.7, 0.92), ("mouth interior", 1.4, 3.2, 0.78))
    return [
        (part, [((x + u * width * half) / side, (y + unit * (down - bend * u * u)) / side)
                for u in (-1, -0.67, -0.33, 0, 0.33, 0.67, 1)])
        for part, down, bend, width in lines
    ]  # fmt: skip


def megabytes(server: psutil.Process) -> tuple[float, float]:
    """Resident MB of the server, and of the page in the browser."""
    children = psutil.Process().children(recursive=True)
    pages = [one.memory_info().rss for one in children if "--type=renderer" in one.cmdline()]
    return server.memory_info().rss / 1e6, max(pages) / 1e6


def optimised(person: Studio, server: psutil.Process, number: int) -> list[tuple[float, float]]:
    """Optimise often, each time from the result of the one before; stopped at the first preview, which saves time.

    Returns:
        resident MB of the server and of the page before, and after every ten optimisations
    """
    page, memory = person.page, [megabytes(server)]
    person.tab("4 Save")
    page.wait_for_selector("#take_mask:not([disabled])")
    page.wait_for_timeout(3000)
    path = person.download("mask")
    masks = [path.with_name("higher.png"), path.with_name("lower.png")]
    with Image.open(path) as mask:
        for moved, down in zip(masks, (-1, 1), strict=True):
            ImageChops.offset(mask, 0, down * mask.height // 32).save(moved)  # keeps the palette
    person.to_paint()
    said = "document.querySelector('#status').innerText"
    for edit in range(1, number + 1):
        page.get_by_test_id("Load mask-upload-button").set_input_files(masks[edit % 2])
        page.wait_for_function("() => document.querySelector('#wanted').innerText.includes('are painted')")
        page.wait_for_timeout(1000)  # until the painting area shows the mask, too
        page.locator("#optimise").click()
        page.wait_for_function(f"() => !{said}.includes('repainted')")
        page.wait_for_function(f"() => {said}.includes('step ') || {said}.includes('repainted')")
        page.locator("#stop").dispatch_event("click")  # no effect if the optimisation has ended already
        person.until_said("repainted")
        if edit % 10 == 0:
            memory.append(megabytes(server))
    return memory


def main() -> None:
    parser = command_line(__doc__)
    parser.add_argument("--outputs", type=Path, default=Path("outputs"), help="folder with the trained models")
    parser.add_argument("--moves", type=int, default=20, help="moves of a slider that are timed")
    parser.add_argument("--edits", type=int, default=100, help="edits before memory is read again")
    parser.add_argument("--optimisations", type=int, default=100, help="optimisations before memory is read again")
    options = parser.parse_args()
    print(f"{psutil.cpu_count()} cores, load {psutil.getloadavg()[0]:.1f} at the start")
    header("what", "value", "reference")
    with running("--outputs", str(options.outputs)) as (address, server), browser() as chromium:
        person = Studio(chromium, address)
        page = person.page
        person.tab("3 Vectors")
        person.slide("slider_smile_mean", 0.5)
        person.until_said("smile_mean 0.5")
        page.evaluate(WATCH)
        times = []
        for move in range(options.moves):
            page.evaluate("() => { window.times = []; window.released = null; }")
            person.slide("slider_smile_mean", (1.5, -0.5)[move % 2])
            page.wait_for_function("() => window.times.length > 0")
            page.wait_for_timeout(700)
            times.append(page.evaluate("() => window.times.at(-1)"))
        row("ms from release to picture, median", f"{statistics.median(times):.0f}", "at most 150")
        row("the same, slowest", f"{max(times):.0f}", "")
        before = server.memory_info().rss / 1e6
        for move in range(options.edits):
            value = 0.1 * (1 + move % 15)
            page.locator("#slider_smile_mean input[type=number]").fill(f"{value:.1f}")
            page.locator("#slider_smile_mean input[type=number]").press("Enter")
            person.until_said(f"smile_mean {value:g}")
        after = server.memory_info().rss / 1e6
        row(f"MB of the server after {options.edits} edits", f"{after:.0f}", f"{before:.0f} before them")
        memory = optimised(person, server, options.optimisations)
        for place, values in zip(("server", "page in the browser"), zip(*memory, strict=True), strict=True):
            before, *every_ten = (f"{value:.0f}" for value in values)
            row(f"MB of the {place} after every ten optimisations", ", ".join(every_ten), f"{before} before")
        person.tab("3 Vectors")
        person.slide("slider_smile_mean", 0.5)
        person.until_said("smile_mean 0.5")
        page.locator("#refine").click()
        person.until_said("Refined")
        person.tab("4 Save")
        page.wait_for_selector("#take_session:not([disabled])")
        page.wait_for_timeout(3000)
        picture, session = person.download("picture"), person.download("session")
        row("addresses asked outside this computer", len(person.foreign), "0")
    out = Path(tempfile.mkdtemp())
    command = [sys.executable, "-m", "editgan.cli.pictures", "apply", "--session", str(session), "--out", str(out)]
    subprocess.run([*command, "--outputs", str(options.outputs)], check=True, capture_output=True)
    same = (read_image(out / f"{session.stem}_edited.png") == read_image(picture)).float().mean()
    row("pixels equal to those of `editgan apply --session`", f"{same:.2%}", "100 %")


if __name__ == "__main__":
    main()
