"""Sessions on networks of random weights: edits on top of edits, and the record that makes the same picture again."""

# ruff: noqa: F811  fixtures are imported by name

import base64
import json

import pytest
import torch
from tiny_editor import cheap_distance, editor, outputs, painted, photos  # noqa: F401
from tiny_models import SIDE
from typer.testing import CliRunner

from editgan.assets.alignment import HEADS
from editgan.cli import pictures as cli
from editgan.data.archive import encode_image, write_archive
from editgan.data.photo import Face, Photo, crop_face
from editgan.editor.record import HeadStart, Record, SeedStart, picture_start, read_record
from editgan.editor.session import Session, repeat
from editgan.encoder.encoder import EMBEDDED_SETS, save_latents
from editgan.errors import UserError
from editgan.images import read_image, save_png, to_pil


def repainted(session: Session, label: int = 2, top: int = 10) -> torch.Tensor:
    mask = session.mask.clone()
    mask[top : top + 6, 8:14] = label
    return mask


@pytest.fixture
def session(editor, outputs) -> Session:
    session = Session(editor, outputs)
    session.start(SeedStart(seed=3))
    return session


def written(session: Session, path) -> Record:
    path.write_text(session.record().model_dump_json())
    return read_record(path)


def test_a_session_is_repeated_from_its_record(session, editor, outputs, tmp_path):
    session.edit(repainted(session), steps=6)
    first = session.image
    session.edit(repainted(session, 3, 20), steps=4)
    session.keep("mine")
    session.apply({"mine": 1.0})
    session.apply({"mine": 0.5, "red_hair": 1.0}, refine=3)
    again = repeat(editor, outputs, written(session, tmp_path / "s.json"))
    assert torch.equal(again.image, session.image) and torch.equal(again.w_plus, session.w_plus)
    assert not torch.equal(session.image, first) and "mine" not in editor.vectors
    assert [action.kind for action in again.actions] == ["edit", "edit", "keep", "apply"], "sliders replace each other"


def test_a_session_is_repeated_where_its_vectors_were_added(session, editor, outputs, tmp_path):
    """Files of vectors that were kept are there to be put into `vectors/`."""
    session.edit(repainted(session), steps=3)
    added = editor.copy()
    added.vectors["mine"] = session.keep("mine")
    session.apply({"mine": 1.0})
    again = repeat(added, outputs, written(session, tmp_path / "s.json"))
    assert torch.equal(again.image, session.image) and "mine" in added.vectors
    session.start(SeedStart(seed=4))
    session.apply({"mine": 0.5})
    record = written(session, tmp_path / "s.json")
    with pytest.raises(UserError, match="the vector mine is missing; give the folder"):
        repeat(editor, outputs, record)
    assert torch.equal(repeat(added, outputs, record).image, session.image)
    added.vectors["mine"] = added.vectors["red_hair"]
    with pytest.raises(UserError, match="the vector mine is another one"):
        repeat(added, outputs, record)


def test_an_edit_that_was_stopped_is_repeated_as_far_as_it_came(session, editor, outputs, tmp_path):
    seen = []

    def preview(step, steps, w_plus):
        seen.append((step, steps, w_plus.shape))
        return step == 3

    session.edit(repainted(session), steps=50, preview=preview)
    assert seen == [(step, 50, (1, 8, 16)) for step in range(4)]
    assert session.record().actions[0].steps == 3
    again = repeat(editor, outputs, written(session, tmp_path / "s.json"))
    assert torch.equal(again.w_plus, session.w_plus)
    session.apply({"bigger_nose": 1.0}, refine=40, preview=lambda step, *_: step == 2)
    assert session.record().actions[1].refine == 2


def test_a_kept_edit_gives_the_same_picture_at_strength_1(session):
    edited = session.edit(repainted(session), steps=30).images
    session.keep("mine")
    assert torch.equal(session.image, session.editor.reconstruct()[0]), "as before the edit"
    assert torch.equal(session.apply({"mine": 1.0}).images, edited)
    assert session.apply({"mine": 0.0}) is None and not torch.equal(session.image, edited[0])
    session.drop()
    with pytest.raises(UserError, match="no edit to keep"):
        session.keep("other")
    session.apply({"mine": 1.0})
    for name, fault in (
        ("mine", "already"),
        ("red_hair", "already"),
        *((name, "letters, digits") for name in ("../x", "", "x²", "a" * 41)),
    ):
        with pytest.raises(UserError, match=fault):
            session.keep(name)


def test_a_slider_shows_its_picture_before_the_rest_is_computed(session, monkeypatch):
    called, apply = [], session.editor.apply
    monkeypatch.setattr(session.editor, "apply", lambda *a, **k: called.append(a) or apply(*a, **k))
    session.move({"red_hair": 0.3})
    session.move({"red_hair": 0.8, "bigger_nose": -1.0})
    shown = session.image
    assert not called and len(session.actions) == 1, "no segmentation while the slider moves"
    assert torch.equal(shown, session.current.images[0]) and len(called) == 1
    session.move({"red_hair": 0.1})
    before = session.image
    session.edit(repainted(session), steps=2)
    assert torch.equal(session.editor.reconstruct()[0], before), "an edit starts from what is shown"
    with pytest.raises(UserError, match="unknown edit"):
        session.move({"lost": 1.0})
    assert [action.kind for action in session.actions] == ["apply", "edit"]


def test_two_sessions_of_one_editor_do_not_mix(editor, outputs, session):
    other = Session(editor, outputs)
    other.start(SeedStart(seed=9))
    alone = session.edit(repainted(session), steps=4).images
    other.apply({"bigger_nose": 2.0})
    session.keep("mine")
    assert "mine" not in other.editor.vectors and "mine" not in editor.vectors
    assert torch.equal(session.apply({"mine": 1.0}).images, alone)
    fresh = Session(editor, outputs)
    fresh.start(SeedStart(seed=9))
    assert torch.equal(fresh.apply({"bigger_nose": 2.0}).images, other.current.images)


def test_edits_of_a_photo_add_up_in_the_photo(editor, outputs, tmp_path):
    picture = torch.randint(0, 256, (3, 90, 120), dtype=torch.uint8)
    path = save_png(tmp_path / "party.png", to_pil(picture))
    face = Face(torch.tensor(HEADS) * 80, 1.0)
    session = Session(editor, outputs)
    session.editor.settings = session.editor.settings.model_copy(
        update={"encoder": session.editor.settings.encoder.model_copy(update={"inversion_steps": 2})}
    )
    session.start(picture_start(crop_face(Photo(picture), face, SIDE), path, face), photo=path)
    assert session.whole().size == (120, 90) and session.whole().tobytes() == to_pil(picture).tobytes()
    session.edit(repainted(session), steps=8)
    one = session.current.region.clone()
    session.edit(repainted(session, 3, 22), steps=8)
    assert (session.editor._touched(session.current) & one == one).all()
    whole = session.whole()
    again = repeat(editor, outputs, written(session, tmp_path / "s.json"), path)
    assert again.whole().tobytes() == whole.tobytes() != to_pil(picture).tobytes()
    session.move({"red_hair": 1.0})
    session.move({})
    assert session.whole().tobytes() == whole.tobytes(), "the edits stay when a slider goes back to 0"
    session.edit(repainted(session, 1, 4), steps=2)
    session.keep("mine")
    assert session.whole().tobytes() == whole.tobytes(), "as before the edit that was kept"
    other = save_png(tmp_path / "other.png", to_pil(picture.flip(2)))
    with pytest.raises(UserError, match="is another picture; the session was made with party.png"):
        repeat(editor, outputs, session.record(), other)


def test_test_heads_come_with_their_latents(editor, outputs, session):
    editor.sample([1, 2, 3])
    save_latents(outputs / "encoder" / "latents.safetensors", dict.fromkeys(EMBEDDED_SETS, editor.w_plus), 0)
    heads = [encode_image(image.permute(1, 2, 0).numpy()) for image in photos(3)]
    write_archive(outputs / "data" / "test.zip", heads)
    session.start(HeadStart(head=2))
    assert torch.equal(session.editor.photos[0], photos(3)[2]) and torch.allclose(
        session.w_plus, editor.w_plus[2:], atol=1e-2
    )
    with pytest.raises(UserError, match="no test head 3; there are 3"):
        session.start(HeadStart(head=3))
    shown = session.image
    save_latents(outputs / "encoder" / "latents.safetensors", dict.fromkeys(EMBEDDED_SETS, -editor.w_plus), 0)
    assert torch.equal(repeat(editor, outputs, session.record()).image, shown), "the latent is part of the record"


def test_what_an_edit_changed_is_measured(editor):
    editor.set_image(photos(), steps=0)
    target = painted(editor)
    edited = editor.edit(target, steps=20)
    for index, outcome in enumerate(editor.outcomes(edited, target)):
        change = (edited.images[index].float() - editor.reconstruct()[index].float()).abs().mean(0)
        assert outcome.inside == pytest.approx(change[edited.region[index]].mean().item())
        assert outcome.outside == pytest.approx(change[~edited.region[index]].mean().item())
        repainted = editor.segment()[index] != target[index]
        reached = (edited.masks[index] == target[index])[repainted].float().mean()
        assert outcome.followed == pytest.approx(reached.item()) and outcome.took == (outcome.followed >= 0.8)
        assert any(said in str(outcome) for said in ("the edit failed", "succeeded in part")) != outcome.took
    assert editor.outcomes(editor.apply({"red_hair": 1.0}))[0].followed is None
    editor.sample([1])
    with pytest.raises(UserError, match="belongs to images set earlier"):
        editor.outcomes(edited, target)


def test_an_edit_that_fails_changes_nothing(session, editor, outputs, monkeypatch):
    session.edit(repainted(session), steps=3)
    session.apply({"red_hair": 0.7})
    shown, steps = session.image, []

    def fails(step, *_):
        steps.append(step)
        raise MemoryError

    with pytest.raises(MemoryError):
        session.edit(repainted(session, 3, 20), preview=fails)
    assert steps == [0] and torch.equal(session.image, shown) and len(session.actions) == 2
    session.move({"red_hair": 0.2})
    assert torch.equal(repeat(editor, outputs, session.record()).image, session.image), "no vector counts twice"


def test_records_of_strangers_are_refused(session, editor, outputs, tmp_path):
    session.edit(repainted(session), steps=1)
    session.apply({"red_hair": 1.0})
    good = json.loads(session.record().model_dump_json())
    huge = base64.b64encode(encode_image(photos()[0].permute(1, 2, 0).numpy().repeat(2, 0))).decode()
    for change, fault in (
        ({"generator": "0"}, "another generator"),
        ({"segmentation": "0"}, "another segmentation"),
        ({"latent": "AAAA"}, r"the latent in the session is not one of this generator, .8, 16"),
        ({"vectors": {"red_hair": "0"}}, "the vector red_hair is another one"),
        ({"vectors": {"lost": "0"}}, "the vector lost is missing"),
        ({"start": {"kind": "seed", "seed": -1}}, r"seed: .*greater than or equal to 0"),
        ({"start": {"kind": "picture", "png": "?"}}, "the picture in the session cannot be read"),
        ({"start": {"kind": "picture", "png": huge}}, "the picture in the session is 32x64"),
        ({"actions": [{"kind": "edit", "mask": "AAAA", "steps": 1}]}, "action 1 .* the mask in the session cannot"),
        ({"actions": [{"kind": "keep", "name": "x"}]}, "action 1 .* no edit to keep"),
        ({"actions": [{"kind": "apply", "edits": {"red_hair": 1e9}}]}, "less than or equal to 100"),
        ({"actions": [{"kind": "run", "code": "x"}]}, "actions.0: "),
        ({"more": 1}, "more: unknown key"),
    ):
        path = tmp_path / "s.json"
        path.write_text(json.dumps(good | change))
        with pytest.raises(UserError, match=fault):
            repeat(editor, outputs, read_record(path))
    for content in ("[", "[" * 100_000, '"x"'):
        path.write_text(content)
        with pytest.raises(UserError):
            read_record(path)


def test_the_command_repeats_a_session(session, outputs, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    session.edit(repainted(session), steps=3)
    session.apply({"red_hair": 0.5})
    path = tmp_path / "session.json"
    path.write_text(session.record().model_dump_json())

    def run(*arguments: str) -> tuple[int, str]:
        done = CliRunner().invoke(cli.app, ["apply", *arguments, "--outputs", str(outputs)])
        assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
        return done.exit_code, " ".join(done.output.split())

    assert run("--session", "session.json") == (0, "2 actions of session.json repeated; results in edited")
    assert torch.equal(read_image(tmp_path / "edited" / "session_edited.png"), session.image)
    session.drop()
    path.write_text(session.record().model_dump_json())
    assert run("--session", "session.json", "--out", "undone")[0] == 0, "the edit before the one that was undone"
    assert torch.equal(read_image(tmp_path / "undone" / "session_edited.png"), session.image)
    for arguments, fault in (
        (("--session", "session.json", "--refine", "30"), "give only the session's photo"),
        ((), "give pictures and at least one --edit, or --session"),
        (("--session", "session.json", "--edit", "red_hair"), "give only"),
        (("--session", "none.json"), "none.json: no such file"),
        (("--session", "."), "Is a directory; give the session.json"),
        (("session.json", "--session", "session.json"), "is another picture; the session has no photo"),
    ):
        status, said = run(*arguments)
        assert status == 1 and fault in said, said
