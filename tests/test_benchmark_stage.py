"""Stage `benchmark` from end to end, with stand-ins for the networks: its files, its tables, its errors."""

import json
import re
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from test_scores import (
    HEADS,
    METHODS,
    MOUTH,
    NAMES,
    NEW,
    REFERENCE,
    SIZE,
    PixelDistance,
    RedMouth,
    planted_heads,
    stand_ins,
)
from torch import nn

from editgan.benchmark import stage
from editgan.benchmark.params import BenchmarkParams
from editgan.config import load_params
from editgan.data.archive import Classes, encode_image, encode_mask, load_classes, save_classes, write_archive
from editgan.editing.params import EditingParams, ObjectiveWeights, OptimizationParams
from editgan.editing.vectors import EditingVector, save_vector
from editgan.encoder.encoder import EMBEDDED_SETS
from editgan.errors import UserError
from editgan.generator.generator import Generator
from editgan.images import read_image, save_mask
from editgan.judges.classifier import SmileResNet
from editgan.judges.load import load_judges
from editgan.methods.distillation.pix2pixhd import GlobalGenerator
from editgan.methods.localediting.channels import convolutions
from editgan.methods.maskgan.networks import MaskGAN, edit, smile_masks
from editgan.methods.smile import EDITGAN, INPUT, RECONSTRUCTION, TRULY_SMILING
from editgan.runtime import tracking
from editgan.runtime.environment import PROJECT_ROOT
from editgan.scoring import rows
from editgan.scoring import stage as scoring_stage
from editgan.scoring.params import ScoringParams
from editgan.scoring.scores import Scores, load_heads, measure_row
from editgan.scoring.table import Column, Row, parse_table
from editgan.segmentation.ensemble import SegmentationEnsemble, save_segmentation
from editgan.weights import load_module, save_module, save_tensors, write_json


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """A project with the outputs of all stages up to `benchmark`, as small as they can be."""
    root = tmp_path_factory.mktemp("benchmark")
    outputs = root / "outputs"
    for name in ("data", "judges", "generator", "encoder", "segmentation", "editing/vectors", "benchmark", *NEW):
        (outputs / name).mkdir(parents=True)
    write_data(outputs / "data")
    torch.manual_seed(0)
    config = dict(z_dim=8, w_dim=8, img_resolution=SIZE, channel_base=64, channel_max=8, num_mapping_layers=1)
    G = Generator(**config)
    save_module(outputs / "generator" / "G_ema.safetensors", G, config)
    S = SegmentationEnsemble(
        feature_channels=G.feature_channels, num_classes=len(NAMES), members=2, class_names=tuple(NAMES)
    )
    nn.init.normal_(S.weight3)  # predictions that differ from pixel to pixel
    save_segmentation(outputs / "segmentation" / "S.safetensors", S)
    w_plus = torch.randn(HEADS, G.num_ws, G.w_dim)
    latents = {name: w_plus.clone() for name in EMBEDDED_SETS}
    save_tensors(outputs / "encoder" / "latents.safetensors", latents)
    vector = EditingVector("smile", tuple(NAMES[2:]), "val/00000", 0.3 * torch.randn(G.num_ws, G.w_dim))
    for name in ("smile", "smile_mean"):
        save_vector(outputs / "editing" / "vectors" / f"{name}.safetensors", replace(vector, name=name))
    (outputs / "judges" / "quality.md").write_text("The judges are stand-ins.\n")
    (outputs / "data" / "recipe.json").write_text(json.dumps(RECIPE))
    directions = {name: torch.randn(G.w_dim) for name in ("smile", "smile_conditional")}
    save_tensors(outputs / "interfacegan" / "directions.safetensors", directions)
    channels = {}
    for index, layer in enumerate(convolutions(G)):
        width = layer.affine.weight.shape[0]
        channels |= {f"q{index:02d}": torch.ones(width), f"style{index:02d}": torch.randn(width)}
    save_tensors(outputs / "localediting" / "channels.safetensors", channels)
    config = dict(width=2, num_downs=1, num_blocks=1, residual=True)
    save_module(outputs / "distillation" / "generator.safetensors", GlobalGenerator(**config), config)
    write_json(outputs / "distillation" / "metrics.json", DISTILLED)
    config = dict(num_classes=len(NAMES), width=4, num_downs=1, num_blocks=1, style_width=4, mask_width=4)
    net = MaskGAN(**config, style_downs=1)
    save_module(outputs / "maskgan" / "generator.safetensors", net, net.config)
    write_json(outputs / "maskgan" / "metrics.json", MASKED)
    for name, column in stage.VALIDATED.items():
        write_json(outputs / name / "curves" / "val.json", [{"kimg": 1.0, column: 0.5}, {"kimg": 2.0, column: 0.4}])
    save_mask(outputs / "maskgan" / "donor.png", DONOR, load_classes(outputs / "data" / "classes.json").palette)
    with pytest.MonkeyPatch.context() as patch:
        use_stand_ins(patch)
        context = context_in(root)
        score(context)
        stage.run(context)
    return root


@pytest.fixture
def context(made, tmp_path, monkeypatch):
    """The same for a test of its own, which may change it."""
    shutil.copytree(made, tmp_path / "project")
    use_stand_ins(monkeypatch)
    return context_in(tmp_path / "project")


def use_stand_ins(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(scoring_stage, "load_network", lambda *_: PixelDistance())
    patch.setattr(rows, "load_judges", lambda *_: stand_ins())
    patch.setattr(rows, "BATCH", 4)
    patch.setattr(scoring_stage, "BATCH", 4)
    patch.setattr(scoring_stage, "load_guide", lambda *_: RedMouth())


def context_in(root: Path) -> SimpleNamespace:
    steps = OptimizationParams(steps=2, lr=0.02)
    params = SimpleNamespace(
        model_dump=lambda **_: {"seed": 0},
        seed=0,
        runtime=SimpleNamespace(processes=1),  # the stand-ins live in this process
        assets=SimpleNamespace(ir_se50=None, reference_inception=None),
        editing=EditingParams(heads=1, weights=ObjectiveWeights(lpips=5, mse=5, ce=1), edit=steps, refine=steps),
        segmentation=SimpleNamespace(labelled_images=4),
        data=SimpleNamespace(source="heads"),
        scoring=ScoringParams(
            recipe=1, vector="smile", plus_vector="smile_mean", editgan=(0.5, 1), refined=(1,),
            editgan_plus=(0.5, 1), interfacegan=(1, 2), localediting=(0.5, 1),
        ),
        benchmark=BenchmarkParams(grid_heads=3),
        **{name: getattr(OTHERS, name) for name in ("interfacegan", "localediting", "distillation", "maskgan")},
    )  # fmt: skip
    return SimpleNamespace(
        params=params,
        root=root,
        out=root / "outputs" / "benchmark",
        work=root / "work",
        run=tracking.offline_run(),
        device=torch.device("cpu"),
        input=lambda name: root / "outputs" / name,
    )


def score(context: SimpleNamespace) -> None:
    """Run stage `scoring`."""
    out = context.input("scoring")
    scoring_stage.run(SimpleNamespace(**{**vars(context), "out": out, "work": context.root / "scoring"}))


OTHERS = load_params(PROJECT_ROOT / "params.yaml")
RECIPE = {"data": {"train": 1234}}
DISTILLED = {
    "pairs": 12, "parameters": 9876, "still_improving": True, "l1_val4": 0.02, "l1_val4_unchanged": 0.06,
    "smiling_guide_val4": 0.75, "smiling_guide_val4_sources": 0.0, "smiling_guide_val4_targets": 1.0,
}  # fmt: skip
MASKED = {
    "donor": 3, "train_masks": 1234, "parameters": 54321, "still_improving": False, "l1_val5": 0.07,
    "lpips_vgg_val5": 0.11, "l1_val5_parsed": 0.08, "lpips_vgg_val5_parsed": 0.13,
    "segmentation_accuracy_val5": 0.875, "segmentation_accuracy_val5_photos": 0.975,
    "segmentation_accuracy_val2_smiles": 0.765, "mouth_iou_val2_smiles": 0.5,
}  # fmt: skip
DONOR = torch.zeros(SIZE, SIZE, dtype=torch.uint8)
DONOR[8:14, 4:12] = NAMES.index("mouth_interior")


def write_data(folder) -> None:
    heads, reference = planted_heads(), planted_heads(REFERENCE, seed=9)
    classes = Classes(names=NAMES, palette=np.arange(15, dtype=np.uint8).reshape(5, 3) * 16)
    save_classes(folder / "classes.json", classes)
    mask = np.zeros((SIZE, SIZE), np.uint8)
    mask[MOUTH] = NAMES.index("lower_lip")
    rest = dict.fromkeys(("smile", "mouth_open", "frown", "blink"), 0.0)
    labels = [{"identity": index, **rest} for index in range(HEADS)]
    archives = {name: heads.photos for name in ("test.zip", "val.zip", "pool.zip")} | {
        "test_smiling.zip": heads.smiling
    }
    for name, images in archives.items():
        pngs = [encode_image(image.permute(1, 2, 0).contiguous().numpy()) for image in images]
        write_archive(folder / name, pngs, [encode_mask(mask, classes.palette)] * HEADS, labels)
    write_archive(
        folder / "reference.zip", [encode_image(x.permute(1, 2, 0).contiguous().numpy()) for x in reference.smiling]
    )


def contents(context) -> dict[str, bytes]:
    return {
        path.relative_to(context.out).as_posix(): path.read_bytes()
        for path in sorted(context.out.rglob("*"))
        if path.is_file()
    }


def test_protocol_end_to_end_is_byte_stable(context):
    first = contents(context)
    pictures = {f"{name}.png" for name in ("grid", "pasted", "worst", "curves", "curves_pasted", "training")}
    columns = {RECONSTRUCTION, *METHODS, "editgan_plus_2", INPUT, TRULY_SMILING, "distillation", "maskgan"}
    pictures |= {f"columns/{name}.png" for name in columns}
    assert first.keys() == pictures | {
        "metrics.json", "results.csv", "heads.safetensors", "table.md", "table.tex",
    }  # fmt: skip
    metrics = json.loads(first["metrics.json"])
    smile = metrics[f"smile_test{HEADS}"]
    edited = [RECONSTRUCTION, *METHODS, "editgan_plus_2"]
    assert sorted(smile) == sorted(
        [INPUT, TRULY_SMILING, "distillation", "maskgan", *edited, *(f"{name}_pasted" for name in edited)]
    )
    both = {name + suffix for name in (*METHODS, "editgan_plus_2") for suffix in ("", "_pasted")}
    assert set(metrics[f"area_test{HEADS}"]) == both
    assert smile[INPUT]["smiling_judge"] == 0 and smile[TRULY_SMILING]["smiling_judge"] == 100
    assert smile[EDITGAN] != smile[RECONSTRUCTION] != smile["editgan_plus_2"]
    embedding = metrics[f"embedding_val{HEADS}"]
    assert embedding["encoder"] == embedding["encoder_and_optimisation"], "the same latents here"
    names = {"embedding_lpips_alex", "embedding_l2", "embedding_identity_mobilefacenet"}
    assert set(embedding["encoder"]) == set(embedding["maskgan"]) == names
    assert {name for name, row in smile.items() if "mouth_iou_segmentation" in row} == set(edited)
    assert {name for name, row in smile.items() if "segmentation_accuracy" in row} == {RECONSTRUCTION}
    text = re.sub(" +", " ", first["table.md"].decode())
    assert text.index("stand-ins") < text.index("| EditGAN+2 (ours) |") and f"FID{HEADS}_efflite0" in text
    assert f"with {REFERENCE} reference" in text
    assert "ms" not in json.dumps(metrics)
    for name in ("distillation", "maskgan"):
        assert "leak_to_input" in smile[name] and "leak_to_reconstruction" not in smile[name], "it takes the photo"
    assert "\u2020 Still improving when training ended: StyleGAN2 Distillation." in text
    assert "| StyleGAN2 Distillation \u2020 |" in text and "| MaskGAN |" in text, "marked where it stands"
    assert "| MaskGAN, generated from the exact masks |" in text

    stage.run(context)
    assert contents(context) == first


def test_rows_of_the_table_are_those_of_the_sweep_at_the_chosen_strengths(context):
    swept, shown = (
        parse_table((context.input(name) / "results.csv").read_bytes(), name) for name in ("scoring", "benchmark")
    )
    chosen = json.loads((context.input("scoring") / "metrics.json").read_text())["chosen"]
    compared = 0
    for row, figures in swept.items():
        if row.method not in chosen or row.strength == chosen[row.method]["strength"]:
            compared += row in shown
            for column, figure in figures.items() if row in shown else ():
                assert shown[row][column].value == pytest.approx(figure.value, abs=1e-6), (row, column)
    assert compared == 2 * (2 + len(METHODS)), "reconstruction, refined and every method, plain and pasted back"


def test_maskgan_draws_photos_with_the_donors_mouth_on_their_own_exact_masks(context):
    load = stage.load_rows(context.root / "outputs", context.params, context.device)
    heads = planted_heads()
    heads.masks[0] = 0
    heads.masks[0, MOUTH[0], :5] = NAMES.index("upper_lip")  # elsewhere than in the others

    def drawn(heads):
        load.heads = heads
        return load.make("maskgan", None)[0][Row("maskgan")]

    net = load_module(context.input("maskgan") / "generator.safetensors", MaskGAN)
    wanted = smile_masks(heads.masks, DONOR, NAMES)
    assert (wanted == NAMES.index("mouth_interior")).any((1, 2)).all() and not torch.equal(wanted[0], wanted[1])
    first = drawn(heads)
    assert torch.equal(first, edit(net, heads.photos, heads.masks, wanted, batch=4))
    smiling = replace(heads, smiling_masks=torch.zeros_like(heads.masks), smiling=heads.photos)
    assert torch.equal(drawn(smiling), first)
    assert not torch.equal(drawn(replace(heads, masks=heads.masks.roll(1, 0))), first)


def test_report_says_what_the_trained_networks_were_given_and_what_they_reach(context):
    text = (context.out / "table.md").read_text()
    figures = ("1,234 labelled masks", "54,321 parameters", "9,876 parameters", "12 pairs")
    for figure in (*figures, "10,000 samples scored", "8 smiling training heads", "16,000 training images", "28,000"):
        assert figure in text, figure
    distilled, masked = (next(line for line in text.splitlines() if line.startswith(start)) for start in (
        "- StyleGAN2 Distillation: on 4 held-out", "- MaskGAN: 5 validation heads"
    ))  # fmt: skip
    assert "75.0 % of its outputs" in distilled and "0.020" in distilled and "0.060" in distilled
    for figure in ("LPIPS-VGG 0.110", "0.130", "87.5 %", "97.5 %", "2 neutral heads 76.5 %", "IoU of 0.500"):
        assert figure in masked, figure
    write_json(context.input("maskgan") / "metrics.json", MASKED | {"still_improving": True})
    stage.run(context)
    ended = "Still improving when training ended: StyleGAN2 Distillation, MaskGAN."
    assert ended in (context.out / "table.md").read_text()


def test_every_interval_has_the_heads_behind_it(context):
    results = parse_table((context.out / "results.csv").read_bytes(), "results.csv")
    heads, about = load_heads(context.out / "heads.safetensors")
    behind = {
        (row, column)
        for row, figures in results.items()
        for column, figure in figures.items()
        if figure.low is not None and column.metric not in ("kid", "area")  # those are of all heads at once
    }
    assert set(heads) == behind
    for figures in results.values():
        for figure in figures.values():
            assert figure.low is None or figure.low <= figure.value <= figure.high
    assert about == {"data": RECIPE}, "the recipe of the heads"
    for (row, column), said in heads.items():
        assert said.shape == (HEADS,) and said.dtype == torch.float32
        assert float(said.double().mean()) == pytest.approx(results[row][column].value, abs=2e-6)


def test_missing_and_mismatched_inputs_are_named(context):
    save_tensors(
        context.input("encoder") / "latents.safetensors",
        {name: torch.zeros(HEADS - 1, 6, 8) for name in EMBEDDED_SETS},
    )
    with pytest.raises(
        UserError, match=f"{HEADS - 1} latents of reconstruction for {HEADS} test heads; run stage encoder"
    ):
        stage.run(context)
    context.params.scoring = context.params.scoring.model_copy(update={"vector": "frown"})
    with pytest.raises(UserError, match="frown.safetensors: missing"):
        stage.run(context)


@pytest.mark.assets
def test_features_of_the_real_network_do_not_depend_on_the_batch(assets_dir):
    from editgan.assets.load import load_network
    from editgan.judges.quality import measure

    network = load_network("efflite0", assets_dir)
    images = planted_heads(6).photos
    whole, parts = measure(network, images, batch=6), measure(network, images, batch=4)
    assert whole.shape == (6, 1280) and whole.dtype == torch.float64
    torch.testing.assert_close(whole, parts, rtol=1e-4, atol=1e-5)


def test_columns_are_the_first_heads_as_generated(context):
    columns = context.out / "columns"
    stacked = read_image(columns / "input.png")  # [3, 3 * SIZE, SIZE]
    photos = planted_heads().photos[:3]
    assert torch.equal(stacked, torch.cat([*photos], dim=1))
    assert torch.equal(read_image(columns / "truly_smiling.png"), torch.cat([*planted_heads().smiling[:3]], dim=1))


def test_latex_has_a_row_for_every_method(context):
    lines = (context.out / "table.tex").read_text().splitlines()
    rows = [line for line in lines if line.endswith("\\\\")]
    assert len(rows) == 1 + 6 + len(METHODS) and r"\% smiling, judge" in rows[0]
    assert len({line.count("&") for line in rows}) == 1, "as many cells in every row"


def test_photographs_have_no_truth_and_no_figure_that_needs_one(context):
    context.params.data.source = "folder"
    write_archive(context.input("data") / "test_smiling.zip", [], [], [])
    shutil.rmtree(context.root / "scoring")  # the finished rows
    score(context)
    stage.run(context)
    rows = json.loads((context.out / "metrics.json").read_text())[f"smile_test{HEADS}"]
    assert TRULY_SMILING not in rows and {INPUT, RECONSTRUCTION, EDITGAN} <= rows.keys()
    columns = {column for row in rows.values() for column in row}
    assert not {"lpips_alex", "l2", "mouth_iou_segmentation"} & columns
    assert {"smiling_judge", "identity_mobilefacenet", "leak_to_input", f"fid{HEADS}_efflite0"} <= columns
    text = (context.out / "table.md").read_text()
    assert "to truth" not in text and "truly smiling (ceiling)" not in text and "no ceiling" in text
    assert (
        "the mIoU of the segmentation is measured on the same heads" in text and "quality of the judges and" not in text
    )


class Judged:
    """Rows of random pictures before the real judges; a process makes one for itself."""

    def __init__(self, assets_dir, folder) -> None:
        self.judges = load_judges(assets_dir, folder)
        generator = torch.Generator().manual_seed(0)
        self.photos = torch.randint(0, 256, (6, 3, 64, 64), dtype=torch.uint8, generator=generator)

    def score(self, method: str, strength: float) -> list[rows.Scored]:
        pictures = self.photos.roll(int(strength), 0)
        said = measure_row(pictures, self.photos, self.judges, batch=4, device=torch.device("cpu"))
        heads = {Column("lpips", "alex"): said.lpips_alex}
        heads |= {Column("features", str(k)): part for k, part in enumerate(said.features["efflite0"].T[:3])}
        heads |= {Column("identity", str(k)): part for k, part in enumerate(said.identity["mobilefacenet"].T[:3])}
        return [rows.Scored(Row(method, strength), Scores(heads=heads), pictures, said.smile)]


@pytest.mark.assets
def test_two_processes_judge_as_one(assets_dir, tmp_path):
    """The same figures whatever the number of processes, in the order of the jobs."""
    config = dict(input_resolution=32, width=4)
    save_module(tmp_path / "judge.safetensors", SmileResNet(**config), config)
    jobs, found = [("c", 0.0), ("a", 1.0), ("b", 2.0)], {}
    for processes in (1, 2):
        load = partial(Judged, assets_dir, tmp_path)
        scored = rows.score_rows(load, jobs, device=torch.device("cpu"), processes=processes)
        found[processes] = [one for of in scored for one in of]
    for one, two, job in zip(found[1], found[2], jobs, strict=True):
        assert one.row == two.row == Row(*job) and torch.equal(one.pictures, two.pictures)
        torch.testing.assert_close(one.smile, two.smile, rtol=1e-4, atol=1e-5)
        for column, said in one.scores.heads.items():
            torch.testing.assert_close(said, two.scores.heads[column], rtol=1e-4, atol=1e-5)
