"""The classifiers train to see a planted smile, resume bit for bit, and the quality figures say what they claim."""

import json
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from training_runs import Killed
from training_runs import train as train_shortly

from editgan.data.archive import encode_image, write_archive
from editgan.data.protocol import SMILE
from editgan.errors import UserError
from editgan.judges import stage
from editgan.judges.classifier import SmileConvNet, SmileResNet, initialise, lower_face
from editgan.judges.load import SMILE_JUDGES, load_guide
from editgan.judges.params import JudgesParams
from editgan.judges.quality import agreement, identity_quality, measure, quality_table, smile_quality
from editgan.judges.train import LabelledHeads, augment, classifier_training, select_clear, split_halves
from editgan.runtime import tracking
from editgan.training import count_parameters, generator_for
from editgan.weights import save_module, tensors_equal


def planted_heads(count: int, seed: int = 0) -> LabelledHeads:
    """Grey noise with a bright bar, wide on "smiling" pictures and narrow on the others."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(60, 120, (count, 3, 32, 32), generator=generator, dtype=torch.uint8)
    smiling = torch.arange(count) % 2 == 0
    images[smiling, :, 20:23, 6:26] = 220
    images[~smiling, :, 20:23, 12:20] = 220
    return LabelledHeads(images=images, smiling=smiling)


PARAMS = JudgesParams(recipe=1, smile_threshold=0.35, kimg=0.64, batch=32, lr=4e-3, guide_width=8)


def train(net, work, **options):
    whole = classifier_training(net, planted_heads(128), PARAMS, name="guide", seed=3, device=torch.device("cpu"))
    return train_shortly(whole, work, intervals=dict(status_kimg=0.16, state_kimg=0.32), **options)


def small_net(cls, width=8):
    return initialise(cls(input_resolution=32, width=width), generator_for(0, "test"))


@pytest.mark.parametrize("cls", [SmileConvNet, SmileResNet])
def test_learns_a_planted_smile(cls, tmp_path):
    unseen = planted_heads(200, seed=1)
    before = smile_quality(measure(small_net(cls).eval().smile, unseen.images), unseen.smiling)
    net = small_net(cls)
    train(net, tmp_path)
    after = smile_quality(measure(net.eval().smile, unseen.images), unseen.smiling)
    assert before["auc"] == 0.5 and after["auc"] > 0.99 and after["accuracy"] > 0.95


@pytest.mark.parametrize("cls", [SmileConvNet, SmileResNet])
def test_resumed_training_equals_unbroken(cls, tmp_path):
    unbroken, killed, resumed = (small_net(cls) for _ in range(3))
    rows = train(unbroken, tmp_path / "unbroken")
    with pytest.raises(Killed):
        train(killed, tmp_path / "killed", dies_after=320)  # after the state of 320 images, before that of 640
    later = train(resumed, tmp_path / "killed")
    assert [row["nimg"] for row in later] == [480, 640] and later == rows[2:]  # it went on from 320 images, not from 0
    assert tensors_equal(resumed.state_dict(), unbroken.state_dict())


def test_resnet_layout_is_resnet18():
    import torchvision

    ours = count_parameters(SmileResNet(input_resolution=32, width=64))
    assert ours == count_parameters(torchvision.models.resnet18(weights=None, num_classes=1))


def test_resnet_computes_what_torchvision_computes():
    import torchvision

    ours = small_net(SmileResNet, width=64).eval()
    torch.nn.init.normal_(ours.fc.weight)
    theirs = torchvision.models.resnet18(weights=None, num_classes=1).eval()
    names = {f"layer{stage + 1}": f"stages.{stage}" for stage in range(4)}
    state = {}
    for key in theirs.state_dict():
        head, _, rest = key.partition(".")
        state[key] = ours.state_dict()[f"{names.get(head, head)}.{rest}"]
    theirs.load_state_dict(state)
    x = torch.rand(2, 3, 64, 64) * 2 - 1
    torch.testing.assert_close(ours(x), theirs(lower_face(x)).squeeze(1), rtol=1e-4, atol=1e-5)


def test_the_lower_face_is_where_the_mouth_is():
    image = torch.zeros(1, 3, 64, 64)
    image[..., 45, 32] = 1  # 0.46 + 0.25 of the height, in the middle
    crop = lower_face(image)
    assert crop.shape == (1, 3, 32, 32)
    assert crop[0, 0].flatten().argmax() == 16 * 32 + 16 and lower_face(image[..., ::2, ::2]).shape == (1, 3, 16, 16)


def test_any_image_size_and_gradients_reach_the_pixels():
    net = small_net(SmileConvNet).eval()
    torch.nn.init.normal_(net.fc.weight)
    images = (torch.rand(2, 3, 64, 64) * 2 - 1).requires_grad_()
    probability = net.smile(images)
    assert probability.shape == (2,) and ((0 < probability) & (probability < 1)).all()
    probability.sum().backward()
    assert images.grad.abs().sum() > 0


def test_guide_on_disk_is_byte_stable_and_loads_frozen(tmp_path):
    net = small_net(SmileConvNet).eval()
    config = {"input_resolution": 32, "width": 8}
    first = save_module(tmp_path / "guide.safetensors", net, config).read_bytes()
    assert first == save_module(tmp_path / "again.safetensors", net, config).read_bytes()
    loaded = load_guide(tmp_path)
    kept = {name: tensor.half().float() for name, tensor in net.state_dict().items()}
    assert tensors_equal({name: tensor.float() for name, tensor in loaded.state_dict().items()}, kept)
    assert not loaded.training and not any(p.requires_grad for p in loaded.parameters())


def test_halves_share_nobody_and_lose_nobody():
    identities = [i // 3 for i in range(300)]  # three pictures a person
    guide, judge = split_halves(identities, seed=0)
    assert not guide & judge and guide | judge == set(identities) and len(guide) == len(judge) == 50
    assert split_halves(identities, seed=0) == (guide, judge) != split_halves(identities, seed=1)


def test_ambiguous_smiles_are_left_out():
    indices, smiling = select_clear([0.0, 0.2, 0.35, 1.0, 0.0, 0.34], threshold=0.35)
    assert indices.tolist() == [0, 2, 3, 4] and smiling.tolist() == [False, True, True, False]


def test_augmentation_moves_little_and_keeps_range():
    images = torch.full((8, 3, 32, 32), -0.5)
    images[:, :, 16, 16] = 1
    result = augment(images, generator_for(0, "augment"))
    assert result.shape == images.shape and result.abs().max() <= 1
    peaks = result.mean(1).flatten(1).argmax(1)
    assert ((peaks // 32 - 16).abs() <= 2).all() and ((peaks % 32 - 16).abs() <= 3).all()
    assert torch.equal(result, augment(images, generator_for(0, "augment")))
    assert not torch.equal(result, augment(images, generator_for(1, "augment")))


def test_identity_quality_against_scikit_learn():
    from sklearn.metrics import roc_auc_score

    generator = torch.Generator().manual_seed(0)
    people = torch.randn(40, 16, generator=generator, dtype=torch.float64)
    neutral, smiling = (people + 0.8 * torch.randn(40, 16, generator=generator, dtype=torch.float64) for _ in range(2))
    identities = [i // 2 for i in range(40)]  # two pictures a person: their cross pairs count for neither side
    quality = identity_quality(neutral, smiling, identities)

    same, different = [], []
    for i in range(40):
        for j in range(40):
            cosine = float(torch.nn.functional.cosine_similarity(neutral[i], smiling[j], dim=0))
            if i == j:
                same.append(cosine)
            elif identities[i] != identities[j]:
                different.append(cosine)
    assert quality["same_pairs"] == 40 and quality["different_pairs"] == len(different) == 40 * 38
    assert quality["auc"] == pytest.approx(roc_auc_score([1] * 40 + [0] * len(different), same + different), abs=1e-6)
    assert quality["gap"] == pytest.approx(sum(same) / 40 - sum(different) / len(different), abs=1e-9)


def test_smile_quality_counts():
    probability = torch.tensor([0.1, 0.5, 0.6, 0.4], dtype=torch.float64)
    smiling = torch.tensor([False, False, True, True])
    quality = smile_quality(probability, smiling)
    assert quality["auc"] == 0.75 and quality["accuracy"] == 0.5
    assert quality["called_smiling_of_neutral"] == 0.5 and quality["called_smiling_of_smiling"] == 0.5


def test_agreement_is_pairwise():
    a, b, c = torch.tensor([0.9, 0.1, 0.9, 0.1]), torch.tensor([0.8, 0.2, 0.3, 0.4]), torch.tensor([0.1, 0.9, 0.1, 0.9])
    assert agreement({"a": a, "b": b, "c": c}) == {"a/b": 0.75, "a/c": 0.0, "b/c": 0.25}


def test_measure_does_not_depend_on_the_batch():
    net = small_net(SmileResNet).eval()
    torch.nn.init.normal_(net.fc.weight)
    images = planted_heads(20).images
    whole, parts = measure(net.smile, images, batch=20), measure(net.smile, images, batch=7)
    torch.testing.assert_close(whole, parts, rtol=0, atol=1e-6)


def test_quality_table_names_every_network():
    smile = {"auc": 1.0, "accuracy": 1.0, "called_smiling_of_neutral": 0.0, "called_smiling_of_smiling": 1.0}
    identity = {"auc": 1.0, "same_mean": 0.9, "different_mean": 0.3, "gap": 0.6, "same_pairs": 4, "different_pairs": 9}
    metrics = {
        "identity": {"mobilefacenet": identity, "dlib_resnet": identity},
        "smile": {name: {"test": smile, "val": smile} for name in ("judge", "face_api_expression", "fer", "guide")},
        "agreement": {"fer/judge": 0.97},
        "smile_threshold": 0.35,
        "test_heads": 4,
        "val_heads": 8,
    }
    table = quality_table(metrics, rendered=True)
    assert all(name in table for name in [*metrics["identity"], *metrics["smile"], "fer/judge 97.0 %"])
    assert "missed" not in table
    metrics["identity"]["mobilefacenet"] = identity | {"different_mean": 0.5}
    assert "mean cosine of different people of at most 0.35: missed (0.500)" in quality_table(metrics, rendered=True)
    photographs = quality_table(metrics, rendered=False)
    assert "rendered" not in photographs and "photographed neutral and smiling" in photographs


@pytest.fixture
def context(tmp_path, monkeypatch):
    """A project with 32 px heads whose smile is a wide bright bar, and stand-ins for the pretrained networks."""
    data, out = tmp_path / "outputs" / "data", tmp_path / "outputs" / "judges"
    for folder in (data, out, tmp_path / "work"):
        folder.mkdir(parents=True)
    for offset, name, count in ((0, "train", 192), (1000, "val", 40), (2000, "test", 24), (2000, "test_smiling", 24)):
        heads = planted_heads(count, seed=offset)
        if name.startswith("test"):
            heads = planted_heads(2 * count, seed=offset)
            wanted = heads.smiling == (name == "test_smiling")
            heads = LabelledHeads(images=heads.images[wanted], smiling=heads.smiling[wanted])
        labels = [{"identity": offset + i, "smile": 0.8 if s else 0.0} for i, s in enumerate(heads.smiling.tolist())]
        labels[-1]["smile"] = 0.2 if name in ("train", "val") else labels[-1]["smile"]
        pngs = [encode_image(image.permute(1, 2, 0).contiguous().numpy()) for image in heads.images]
        write_archive(data / f"{name}.zip", pngs, attributes=None if name == "train" else labels)
        if name == "train":
            write_archive(data / "train_labels.zip", attributes=labels)
    monkeypatch.setattr(stage, "load_network", lambda name, _: Bar() if name in SMILE_JUDGES else nn.Flatten())
    return SimpleNamespace(
        params=SimpleNamespace(seed=0, resolution=32, judges=PARAMS, data=SimpleNamespace(source="heads")),
        out=out,
        work=tmp_path / "work",
        run=tracking.offline_run(),
        device=torch.device("cpu"),
        input=lambda name: tmp_path / "outputs" / name,
    )


class Bar(nn.Module):
    """Sees the wide bar of a planted smile."""

    def smile(self, images: torch.Tensor) -> torch.Tensor:
        return (10 * images[:, :, 20:23, 7:10].mean((1, 2, 3))).sigmoid()


def test_stage_end_to_end_is_byte_stable_and_splits_the_people(context):
    stage.run(context)
    first = {path.name: path.read_bytes() for path in context.out.iterdir()}
    curves = {"stats_guide.jsonl", "stats_judge.jsonl"}
    assert first.keys() == {"guide.safetensors", "judge.safetensors", "metrics.json", "quality.md"} | curves
    metrics = json.loads(first["metrics.json"])
    heads = {name: sum(counts.values()) for name, counts in metrics["training_heads"].items()}
    assert sum(heads.values()) == 191 and heads["guide"] in (95, 96)  # the one ambiguous head is in neither half
    assert metrics["val_heads"] == 39 and metrics["test_heads"] == 24
    assert metrics["smile"]["judge"]["test"]["accuracy"] > 0.9 < metrics["smile"]["guide"]["val"]["accuracy"]
    assert metrics["smile"]["fer"]["test"]["auc"] == 1 and metrics["agreement"]["face_api_expression/fer"] == 1
    assert "| judge | judges |" in first["quality.md"].decode()

    for path in context.out.iterdir():
        path.unlink()
    for path in context.work.rglob("state.pt"):
        path.unlink()
    stage.run(context)
    assert {path.name: path.read_bytes() for path in context.out.iterdir()} == first


def test_photographs_are_judged_on_validation_alone(context):
    """They come in no pairs of the same head neutral and smiling."""
    write_archive(context.input("data") / "test_smiling.zip", [], attributes=[])
    stage.run(context)
    metrics = json.loads((context.out / "metrics.json").read_text())
    assert metrics["identity"] == {} and "test_heads" not in metrics and metrics["val_heads"] == 39
    assert all(row.keys() == {"val"} for row in metrics["smile"].values())
    table = (context.out / "quality.md").read_text()
    assert "the identity networks are not measured" in table and "| judge | judges |" in table


def test_labels_that_do_not_fit_the_images_are_refused(context):
    write_archive(context.input("data") / "train_labels.zip", attributes=[{"identity": 1, "smile": 0.0}])
    with pytest.raises(UserError, match="192 images, train_labels.zip 1 labels"):
        stage.run(context)


def test_a_threshold_nobody_reaches_is_refused(context):
    with pytest.raises(UserError, match="judges.smile_threshold 0.95.*lower the threshold"):
        stage.training_halves(context.input("data"), SMILE.model_copy(update={"high": 0.95}), seed=0)
