"""The studio without a browser: pages do not mix and are bounded, strokes become masks, uploads are checked."""

# ruff: noqa: F811  fixtures are imported by name

import os
import re
import signal
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from tiny_editor import PALETTE, cheap_distance, editor, outputs, photos  # noqa: F401
from tiny_models import SIDE
from typer.testing import CliRunner

from editgan.cli import pictures as cli
from editgan.editor import inputs
from editgan.editor.edited import Edited
from editgan.editor.record import SeedStart, read_record
from editgan.editor.session import repeat
from editgan.errors import UserError
from editgan.images import read_image, read_mask, save_png, to_pil
from editgan.runtime.environment import PROJECT_ROOT
from editgan.studio import visits as visits_module
from editgan.studio.pictures import CANVAS, background, figures, layer_of, outlined, painted_mask
from editgan.studio.visits import Moment, Visit, Visits, check_size

COLOURS = torch.as_tensor(PALETTE)


@pytest.fixture
def visits(editor, outputs, tmp_path) -> Visits:
    return Visits(editor, outputs, tmp_path / "pages", most=3)


def opened(visits: Visits, page: str = "a", seed: int = 3) -> Visit:
    visit = visits.open(page)
    visit.session.start(SeedStart(seed=seed))
    return visit


def paint(visit: Visit, label: int = 2) -> None:
    visit.wanted = visit.session.mask.clone()
    visit.wanted[10:16, 8:14] = label


# --- strokes -------------------------------------------------------------------------------------------------------


def test_strokes_become_the_part_that_covers_most_of_a_pixel():
    mask = torch.zeros(SIDE, SIDE, dtype=torch.uint8)
    layer, unit = Image.new("RGBA", (CANVAS, CANVAS)), CANVAS // SIDE
    draw = ImageDraw.Draw(layer)
    draw.rectangle([0, 0, 4 * unit - 1, 2 * unit - 1], fill=(*PALETTE[2].tolist(), 255))
    draw.rectangle([3 * unit, 0, 3 * unit + unit // 2 - 2, unit - 1], fill=(*PALETTE[3].tolist(), 255))  # under half
    draw.rectangle([5 * unit, 0, 5 * unit + unit // 3, unit - 1], fill=(*PALETTE[1].tolist(), 255))  # hardly touched
    draw.point((20 * unit, 20 * unit), fill=(*PALETTE[3].tolist(), 255))
    wanted = mask.clone()
    wanted[:2, :4] = 2
    assert torch.equal(painted_mask([layer], mask, COLOURS), wanted)
    blended = np.asarray(layer).copy()
    blended[:unit, :unit, :3] += 5  # a colour near that of the part, as browsers blend
    assert torch.equal(painted_mask([Image.fromarray(blended)], mask, COLOURS), wanted)
    assert torch.equal(painted_mask([], mask, COLOURS), mask), "nothing is painted"


def test_a_mask_becomes_strokes_and_a_mask_again():
    mask, wanted = (torch.randint(0, 4, (SIDE, SIDE), dtype=torch.uint8) for _ in range(2))
    layer = layer_of(wanted, mask, COLOURS)
    assert layer.size == (CANVAS, CANVAS) and torch.equal(painted_mask([layer], mask, COLOURS), wanted)
    assert (
        not np.asarray(layer)[..., 3]
        .reshape(SIDE, CANVAS // SIDE, SIDE, -1)[
            (mask == wanted).numpy().nonzero()[0][0], 0, (mask == wanted).numpy().nonzero()[1][0]
        ]
        .any()
    ), "transparent where they agree"


def test_a_region_is_outlined_and_the_rest_is_left():
    image, mask = photos()[0], torch.zeros(SIDE, SIDE, dtype=torch.uint8)
    picture, region = background(image, mask, COLOURS, 0.5), torch.zeros(SIDE, SIDE, dtype=torch.bool)
    region[8:12, 8:12] = True
    line = np.asarray(outlined(picture, region)) != np.asarray(picture)
    unit = CANVAS // SIDE
    assert line.any() and not line[9 * unit : 11 * unit, 9 * unit : 11 * unit].any() and not line[: 7 * unit].any()
    assert np.array_equal(np.asarray(outlined(picture, region & False)), np.asarray(picture))
    assert 'alt="a &lt;b&gt;"' in figures(("a <b>", picture)), "captions are escaped"


# --- pages ---------------------------------------------------------------------------------------------------------


def test_pages_do_not_mix_and_are_bounded(visits):
    one, two = opened(visits, "a", 3), opened(visits, "b", 4)
    before = two.session.image.clone()
    paint(one)
    assert isinstance(list(one.optimise())[-1], Edited)
    one.keep("mine")
    one.files()
    assert torch.equal(two.session.image, before) and two.kept == [] and two.strengths == {}
    two.move("bigger_nose", 1.0)
    assert one.strengths == {"mine": 1.0} and visits.get("a") is one
    folder = one.folder
    assert folder.is_dir()
    for page in ("c", "d"):
        visits.open(page)
    assert set(visits.pages) == {"a", "c", "d"}, "b was idle longest"
    with pytest.raises(UserError, match="reload"):
        visits.get("b")
    visits.close("a")
    assert not folder.exists() and one.stop.is_set()
    visits.close("a")


def test_the_id_of_a_page_is_no_path(visits, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for page in (str(elsewhere), "../elsewhere", ".."):
        visit = opened(visits, page)
        visit.files()
        assert visit.folder.parent == visits.folder
        visits.close(page)
        assert elsewhere.is_dir() and not visit.folder.exists()


def test_an_optimisation_is_shown_and_stopped(visits):
    visit = opened(visits)
    with pytest.raises(UserError, match="nothing is painted"):
        next(visit.optimise())
    paint(visit)
    moments = []
    for moment in visit.optimise():
        moments.append(moment)
        visit.stop.set()
    assert isinstance(moments[0], Moment) and moments[0].step == 5 and moments[0].steps == 100
    assert moments[0].seconds_left > 0 and moments[0].picture.size == (SIDE, SIDE)
    assert visit.session.actions[0].steps < 100 and isinstance(moments[-1], Edited)
    visit.session.drop()
    paint(visit)
    stream = visit.optimise()
    next(stream)
    stream.close()  # the browser has gone
    assert visit.stop.is_set() and visit.session.actions[-1].steps < 100
    with pytest.raises(UserError, match="all sliders are at 0"):
        list(visit.refine(3))
    visit.move("red_hair", 1.0)
    assert isinstance(list(visit.refine(6))[-1], Edited) and visit.session.actions[-1].refine == 6


def test_what_goes_wrong_while_optimising_is_told(visits, monkeypatch):
    visit = opened(visits)
    paint(visit)
    monkeypatch.setattr(visit.session.editor, "edit", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        list(visit.optimise())


def test_the_page_is_usable_after_an_error(visits):
    pytest.importorskip("gradio", reason="the studio's extra is not installed: pip install -e '.[studio]'")
    from editgan.studio.layout import Layout
    from editgan.studio.page import Page

    page, visit = Page(Layout(visits.editor, visits.outputs), visits), opened(visits)
    at, shown = page.at, page._run(visit, (1 / 0 for _ in "x"), "Optimising")
    assert not next(shown)[at.optimise].interactive
    after = next(shown)
    assert after[at.optimise].interactive and not after[at.stop].interactive
    assert "edit failed" in after[at.status]
    with pytest.raises(ZeroDivisionError):
        next(shown)


def test_what_is_taken_away_can_be_used(visits, editor, outputs):
    visit = opened(visits)
    paint(visit)
    list(visit.optimise())
    visit.keep("mine")
    visit.move("red_hair", -0.5)
    files = visit.files()
    assert set(files) == {"picture", "mask", "latent", "session", "vector mine"}
    assert all(path.is_relative_to(visit.folder) for path in files.values())
    assert torch.equal(read_image(files["picture"]), visit.session.image)
    assert torch.equal(read_mask(files["mask"], resolution=SIDE, classes=4, palette=PALETTE), visit.session.mask)
    again = repeat(editor, outputs, read_record(files["session"]))
    assert torch.equal(again.image, visit.session.image)
    visit.restart()
    assert visit.strengths == {} and visit.session.actions == [] and visit.kept == ["mine"]
    for number in range(visits_module.MOST_KEPT - 1):
        visit.move("red_hair", 1.0)
        visit.keep(f"v{number}")
    visit.move("red_hair", 0.3)
    with pytest.raises(UserError, match="keeps at most 8"):
        visit.keep("more")


# --- uploads -------------------------------------------------------------------------------------------------------


def test_uploads_are_checked_before_they_are_decoded(visits, tmp_path, monkeypatch):
    visit = opened(visits)
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    Image.new("1", (9000, 9000)).save(tmp_path / "wide.png")
    Image.new("1", (30_000, 30_000)).save(tmp_path / "bomb.png")
    Image.new("RGBA", (SIDE, SIDE)).save(tmp_path / "clear.png")
    for name, fault in (
        ("broken.png", "cannot be read"),
        ("wide.png", "has 81 million pixels"),
        ("bomb.png", "has too many pixels"),
        ("clear.png", "is completely transparent"),
    ):
        with pytest.raises(UserError, match=f"^{name}: {fault}"):  # the folder of the server is not told
            visit.upload(tmp_path / name)
    assert visit.session.began == SeedStart(seed=3), "the picture stays"
    monkeypatch.setattr(visits_module, "MOST_PIXELS", SIDE * SIDE)
    check_size(save_png(tmp_path / "aligned.png", to_pil(photos()[0])))


def test_how_uploads_were_read_is_said(visits, tmp_path):
    visit, said = opened(visits), []
    pages = [to_pil(photos()[0]), to_pil(photos()[0])]
    pages[0].save(tmp_path / "two.tif", save_all=True, append_images=pages[1:])
    visit.upload(tmp_path / "two.tif", said.append)
    mask = Image.fromarray(visit.session.mask.numpy()).resize((4 * SIDE, 4 * SIDE), Image.Resampling.NEAREST)
    mask.save(tmp_path / "large.png")
    visit.upload_mask(tmp_path / "large.png", said.append)
    assert torch.equal(visit.wanted, visit.session.mask)
    assert said[0] == "two.tif: has 2 frames; the first one is used"
    assert said[1] == f"large.png: is {4 * SIDE}x{4 * SIDE}; scaled to {SIDE}x{SIDE}"


def test_an_aligned_picture_is_taken_as_it_is_and_faces_are_offered(visits, tmp_path, monkeypatch):
    from editgan.assets.alignment import HEADS
    from editgan.data.photo import Face

    visit = opened(visits)
    settings = visit.session.editor.settings
    few = settings.encoder.model_copy(update={"inversion_steps": 1})
    visit.session.editor.settings = settings.model_copy(update={"encoder": few})
    assert visit.upload(save_png(tmp_path / "aligned.png", to_pil(photos()[0]))) == []
    assert torch.equal(visit.session.editor.photos[0], photos()[0]) and visit.session.photo is None
    party = save_png(tmp_path / "party.png", to_pil(torch.randint(0, 256, (3, 90, 160), dtype=torch.uint8)))
    faces = [Face(torch.tensor(HEADS) * 60 + shift, 1.0) for shift in (0.0, 30.0)]
    monkeypatch.setattr(inputs, "find_faces", lambda *_: faces)
    monkeypatch.setattr(inputs, "load_network", lambda *_: None)
    found = visit.upload(party)
    assert len(found) == 2 and visit.session.photo is None, "one is to be chosen"
    visit.choose(1)
    assert torch.equal(visit.session.editor.photos[0], found[1])
    assert visit.session.photo[0].is_relative_to(visit.folder) and visit.session.photo[0].name == "party.png"
    assert visit.session.whole().size == (160, 90)
    faces.pop()
    first = visit.session.photo[0]
    assert visit.upload(party) == [] and visit.session.photo[0] != first, "a single face is taken"
    visit.upload(party)
    assert not first.exists() and len(list(visit.folder.glob("photo*"))) == 2, "copies are not collected"


# --- the command and the page --------------------------------------------------------------------------------------


def test_wrong_options_are_refused(outputs):
    done = CliRunner().invoke(cli.app, ["studio", "--auth", "me", "--outputs", str(outputs)])
    assert done.exit_code == 1 and "write NAME:PASSWORD" in " ".join(done.output.split())
    done = CliRunner().invoke(
        cli.app, ["studio", "--outputs", "a/runs/cars/outputs", "--outputs", "b/runs/cars/outputs"]
    )
    assert done.exit_code == 1 and "two models have the name cars" in " ".join(done.output.split())


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGHUP])
def test_the_files_are_removed_however_the_studio_ends(outputs, monkeypatch, ending):
    """SIGHUP: the terminal was closed."""
    removed = []

    @contextmanager
    def served(*_, **__):
        try:
            yield "http://127.0.0.1:1/"
        finally:
            removed.append(True)

    def ended(_):
        assert signal.getsignal(ending) is signal.default_int_handler
        os.kill(os.getpid(), ending)

    monkeypatch.setattr("editgan.studio.serve.served", served)
    monkeypatch.setattr("editgan.cli.studio.time.sleep", ended)
    before = {one: signal.getsignal(one) for one in (signal.SIGTERM, signal.SIGHUP)}
    try:
        signal.signal(ending, signal.SIG_DFL)
        done = CliRunner().invoke(cli.app, ["studio", "--outputs", str(outputs)])
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)
    assert removed and "its files are removed" in done.output, done.exception


def test_the_page_names_nothing_from_elsewhere():
    for path in (PROJECT_ROOT / "editgan" / "studio").iterdir():
        assert path.is_dir() or not re.search(r"https?://", path.read_text()), path


def test_the_page_is_built_and_answers_on_localhost_alone(editor, outputs):
    """All components and handlers exist; the address, the policy and the folder of the files."""
    pytest.importorskip("gradio", reason="the studio's extra is not installed: pip install -e '.[studio]'")
    import urllib.request
    from pathlib import Path

    from editgan.studio.serve import served

    with served({"heads": (editor, outputs), "cars": (editor.copy(), outputs)}) as address:
        folder = Path(os.environ["GRADIO_TEMP_DIR"])
        assert address.startswith("http://127.0.0.1:") and folder.is_dir()
        with urllib.request.urlopen(address) as answer:
            assert "default-src 'self'" in answer.headers["content-security-policy"]
            assert "EditGAN studio" in answer.read().decode()
        with urllib.request.urlopen(f"{address}config") as answer:
            config = answer.read().decode()
        assert "slider_red_hair" in config and "bigger_nose" in config and '"analytics_enabled":false' in config
        with urllib.request.urlopen(f"{address}cars") as answer:
            assert "slider_red_hair" in answer.read().decode(), "each model has a page"
    assert not folder.exists()


def test_a_generator_without_segmentation_has_sliders_but_no_painting(editor, outputs):
    pytest.importorskip("gradio", reason="the studio's extra is not installed: pip install -e '.[studio]'")
    from editgan.editor.loading import FromMean, NoSegmentation
    from editgan.studio.layout import Layout
    from editgan.studio.page import Page

    alone = editor.copy()
    alone.E, alone.S = FromMean(alone.G), NoSegmentation()
    layout = Layout(alone, outputs)
    assert not layout.paint_tab.visible and "no segmentation" in str(layout.blocks.get_config_file())
    page = Page(layout, Visits(alone, outputs, outputs / "pages"))
    visit = opened(page.visits)
    assert set(visit.files()) == {"picture", "latent", "session"}
    visit.move("red_hair", 1.0)
    assert set(visit.files()) == {"picture", "latent", "session"} and page.canvas_shown(0.5, None) == {}
    assert layout.picture in page._all(visit, "said")


def test_the_classes_in_runs_are_shown_beside_the_default_run(tmp_path, monkeypatch):
    from editgan.cli.studio import model_name, shown_by_default
    from editgan.editor.networks import MODELS

    monkeypatch.chdir(tmp_path)
    for name, files in (("cars", list(MODELS)), ("cats", list(MODELS)[:-1]), ("trial", list(MODELS))):
        for file in files:
            (tmp_path / "runs" / name / "outputs" / file).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "runs" / name / "outputs" / file).touch()
    assert [str(folder) for folder in shown_by_default()] == ["outputs", "runs/cars/outputs"]
    assert model_name(tmp_path / "runs" / "cars" / "outputs") == "cars"
    assert model_name(tmp_path / "ffhq") == "ffhq" and model_name(PROJECT_ROOT / "outputs") == "heads"
