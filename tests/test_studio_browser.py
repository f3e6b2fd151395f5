"""The studio in Chromium, on the trained models: what a person does there, with the mouse."""

import importlib
import re
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from editgan.editor.editor import Editor
from editgan.editor.record import read_record
from editgan.editor.session import repeat
from editgan.images import read_image, save_png, to_pil
from editgan.runtime.environment import PROJECT_ROOT

OUTPUTS = PROJECT_ROOT / "outputs"
CHROMIUM = Path("/usr/bin/chromium")
SEED = 31

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not CHROMIUM.exists(), reason=f"there is no Chromium at {CHROMIUM}"),
    pytest.mark.skipif(not (OUTPUTS / "segmentation" / "S.safetensors").exists(), reason="there are no trained models"),
]


@pytest.fixture(scope="module")
def driver():
    pytest.importorskip("gradio", reason="the studio's extra is not installed: make studio")
    pytest.importorskip("playwright", reason="Playwright is not installed: make test-all")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(PROJECT_ROOT / "benchmarks")
        yield importlib.import_module("studio")


@pytest.fixture(scope="module")
def address(driver):
    with driver.running("--outputs", str(OUTPUTS)) as (found, _):
        yield found


@pytest.fixture(scope="module")
def chromium(driver):
    with driver.browser() as found:
        yield found


@pytest.fixture
def person(driver, chromium, address):
    someone = driver.Studio(chromium, address)
    yield someone
    someone.context.close()
    assert someone.foreign == [], "nothing is fetched from elsewhere"
    assert someone.faults == []


@pytest.fixture(scope="module")
def editor() -> Editor:
    return Editor.load(OUTPUTS)


def pixels(uri: str) -> np.ndarray:
    import base64

    return np.asarray(Image.open(BytesIO(base64.b64decode(uri.partition(",")[2]))).convert("RGB")).astype(int)


def test_a_smile_is_painted_kept_moved_refined_and_taken_away(person, driver, editor):
    page = person.page
    person.seed(SEED)
    before = pixels(person.picture())
    assert torch.equal(torch.from_numpy(before).permute(2, 0, 1), editor.sample([SEED])[0].int())
    person.to_paint()
    for part, points in driver.smile(editor.segment()[0], editor.class_names):
        person.stroke(part, points)
    assert "pixels are painted" in page.locator("#wanted").inner_text()
    page.locator("#optimise").click()
    said = person.until_said("repainted pixels")
    inside, outside = map(float, re.search(r"change ([\d.]+) grey levels inside the region, ([\d.]+)", said).groups())
    assert inside > 5 * outside
    after = pixels(person.picture())
    change = np.abs(after - before)[:, 20:44].mean((1, 2))  # by row, in the middle of the picture
    assert change[40:56].mean() > 4 * change[:24].mean(), "the mouth, not the forehead"
    page.locator("#compare img").first.wait_for()
    assert "Mask reached" in page.locator("#masks").inner_text()

    page.locator("#edit_name input, #edit_name textarea").first.fill("my_smile")
    page.locator("#keep_edit").click()
    person.until_said("Kept as my_smile")
    assert np.abs(pixels(person.picture()) - after).max() <= 1, "at strength 1 it is the same picture"
    person.tab("3 Vectors")
    person.slide("kept_0", 0.5)
    person.until_said("my_smile 0.5")
    half = pixels(person.picture())
    assert 0 < np.abs(half - before).mean() < np.abs(after - before).mean()
    page.locator("#refine").click()
    person.until_said("Refined")
    shown = pixels(person.picture())

    person.tab("4 Save")
    page.wait_for_selector("#take_session:not([disabled])")
    page.wait_for_timeout(3000)
    picture, session = person.download("picture"), person.download("session")
    assert np.array_equal(read_image(picture).permute(1, 2, 0).numpy(), shown)
    again = repeat(editor, OUTPUTS, read_record(session))
    assert np.array_equal(again.image.permute(1, 2, 0).numpy(), shown), "the record makes the same picture again"

    page.get_by_role("button", name="Back to the start").click()
    person.until_said("All edits are undone")
    page.wait_for_timeout(5000)
    unedited = read_image(person.download("picture")).permute(1, 2, 0).numpy()
    assert np.array_equal(unedited, before), "the files follow the picture while their tab is open"

    page.reload()
    page.wait_for_selector("#picture img")
    person.until_said("A picture that the model draws")
    assert not page.locator("#kept_0").is_visible(), "a page that is loaded again begins anew"


def test_the_painting_area_is_cleared_and_the_brush_taken_again(person):
    person.seed(SEED)
    person.to_paint()
    brush, eraser, clear = (person.page.get_by_role("button", name=name) for name in ("Brush", "Erase", "Clear canvas"))
    eraser.click()
    person.stroke("glasses", [(0.3, 0.45), (0.7, 0.45)])  # waits until something is painted
    assert "highlight" in brush.first.get_attribute("class")
    clear.click()
    person.page.locator("#wanted", has_text="Nothing is painted yet").wait_for()
    person.page.get_by_text("select the draw tool to start").wait_for(state="hidden")
    person.stroke("glasses", [(0.3, 0.45), (0.7, 0.45)])
    assert "glasses" in person.page.locator("#wanted").inner_text()
    clear.click()
    person.page.locator("#wanted", has_text="Nothing is painted yet").wait_for()
    person.page.locator("#optimise").click()
    person.until_said("Nothing is painted yet; choose a part")


def test_strokes_are_undone_and_a_mask_leaves_and_returns(person, tmp_path):
    page, wanted = person.page, person.page.locator("#wanted")
    person.seed(SEED)
    person.to_paint()
    person.stroke("glasses", [(0.3, 0.45), (0.7, 0.45)])
    painted = wanted.inner_text()
    page.get_by_role("button", name="Undo", exact=True).click()
    page.locator("#wanted", has_text="Nothing is painted yet").wait_for()
    page.get_by_role("button", name="Redo", exact=True).click()
    page.locator("#wanted", has_text="glasses").wait_for()
    with page.expect_download() as waiting:
        page.locator("#mask_down").click()
    waiting.value.save_as(tmp_path / "mask.png")
    page.get_by_role("button", name="Clear canvas").first.click()
    page.locator("#wanted", has_text="Nothing is painted yet").wait_for()
    page.get_by_test_id("Load mask-upload-button").set_input_files(tmp_path / "mask.png")
    page.locator("#wanted", has_text="glasses").wait_for()
    assert painted in wanted.inner_text()


def test_two_pages_do_not_mix(person, driver, chromium, address):
    other = driver.Studio(chromium, address)
    person.seed(4)
    other.seed(5)
    mine = person.picture()
    other.tab("3 Vectors")
    other.slide("slider_smile_mean", 1.5)
    other.until_said("smile_mean 1.5")
    assert person.picture() == mine and other.picture() != mine
    other.context.close()


def test_an_optimisation_is_stopped_and_that_of_another_page_waits(person, driver, chromium, address, editor):
    other = driver.Studio(chromium, address)
    other.tab("3 Vectors")
    other.slide("slider_smile_mean", 0.5)
    other.until_said("smile_mean 0.5")
    editor.sample([SEED])
    person.seed(SEED)
    person.to_paint()
    part, points = driver.smile(editor.segment()[0], editor.class_names)[0]
    person.stroke(part, points)
    person.page.locator("#optimise").click()
    person.until_said("step 5 of")
    other.page.locator("#refine").click()
    other.until_said("Waiting to start")
    person.page.locator("#stop").click()
    other.until_said("Refined")
    other.context.close()
    person.until_said("repainted pixels")
    person.tab("4 Save")
    person.page.wait_for_selector("#take_session:not([disabled])")
    person.page.wait_for_timeout(3000)
    assert 0 < read_record(person.download("session")).actions[0].steps < 100


def test_a_broken_upload_is_told_and_a_good_one_is_used(person, tmp_path, editor):
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    person.page.locator("#upload input[type=file]").set_input_files(tmp_path / "broken.png")
    person.page.get_by_text("broken.png: cannot be read as a picture").wait_for()
    before = person.picture()
    head = save_png(tmp_path / "head.png", to_pil(editor.sample([7])[0]))
    person.page.locator("#upload input[type=file]").set_input_files(head)
    person.until_said("represent this picture")
    assert person.picture() != before and person.page.locator("#picture figure").count() == 2


def test_the_page_fits_a_telephone_and_is_reached_by_keyboard(driver, chromium, address):
    small = driver.Studio(chromium, address, 390, 844)
    for tab in ("1 Picture", "2 Paint", "3 Vectors", "4 Save"):
        small.tab(tab)
        small.page.wait_for_timeout(1500)
        assert small.page.evaluate("document.documentElement.scrollWidth") <= 390, tab
    small.tab("3 Vectors")
    small.page.locator("#keep_sum").scroll_into_view_if_needed()
    assert small.page.locator("#picture").bounding_box()["y"] >= 0, "the picture stays in sight"
    handle = small.page.locator("#slider_smile_mean input[type=range]")
    handle.focus()
    small.page.keyboard.press("ArrowRight")
    small.until_said("smile_mean 0.05")
    assert small.foreign == []
    small.context.close()
