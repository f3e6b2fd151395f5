"""Edits: are masks transplanted as said, is the objective what the paper writes, are images of a batch independent?"""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.ndimage import binary_dilation
from torch import nn

from editgan.data.paste import dilate
from editgan.editing.masks import (
    bounding_box,
    dilation_radius,
    edit_region,
    erase_parts,
    size_ratio,
    transplant_parts,
)
from editgan.editing.objective import EditLoss, EditObjective
from editgan.editing.optimize import edit, optimize
from editgan.editing.params import ObjectiveWeights
from editgan.editing.refine import refine, refine_edit
from editgan.editing.vectors import EditingVector, apply_vector, load_vector, save_vector
from editgan.errors import UserError
from editgan.segmentation.ensemble import SegmentationEnsemble, save_segmentation

SIZE, NUM_WS, W_DIM, CLASSES = 16, 6, 8, 4
WEIGHTS = ObjectiveWeights(lpips=3, mse=2, ce=1)
PAINTED = [1, 2]  # the parts that edits here are about


class TinyGenerator(nn.Module):
    """Smooth maps 4, 4, 8, 8, 16, 16 of the rows of w_plus and an image from the last: cheap, and exact in float64."""

    def __init__(self) -> None:
        super().__init__()
        self.heads = nn.ModuleList(nn.Linear(W_DIM, 3 * side * side) for side in (4, 4, 8, 8, 16, 16))

    def synthesis_features(self, ws, noise_mode="const"):
        maps = [head(ws[:, row]).tanh().unflatten(1, (3, side, side)) for row, (head, side) in enumerate(self.sides())]
        return F.interpolate(maps[2], size=SIZE, mode="bilinear") + maps[-1], maps

    def synthesis(self, ws, noise_mode="const"):
        return self.synthesis_features(ws, noise_mode)[0]

    def sides(self):
        return zip(self.heads, (4, 4, 8, 8, 16, 16), strict=True)


class TinyLpips(nn.Module):
    """A perceptual distance of the right interface: squared differences of random convolution features."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 5, 3)

    def features(self, x):
        return [self.conv(x).tanh()]

    def distance(self, first, second):
        return (first[0] - second[0]).square().mean((1, 2, 3))


@pytest.fixture
def networks():
    torch.manual_seed(0)
    ensemble = SegmentationEnsemble(
        feature_channels=[3] * 6, num_classes=CLASSES, members=3, class_names=["rest", "lip", "teeth", "hair"]
    )
    for weight in (ensemble.weight1, ensemble.weight2, ensemble.weight3):
        nn.init.normal_(weight, std=0.3)
    ensemble.bias3.data[:, 0] += 0.7  # most pixels are of no edited part
    return tuple(net.double().eval().requires_grad_(False) for net in (TinyGenerator(), ensemble, TinyLpips()))


def latents(count: int, seed: int = 1) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, NUM_WS, W_DIM, generator=generator, dtype=torch.float64)


def painted(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Random edited masks and regions of differing sizes.  # uint8, bool [N, H, W]"""
    generator = torch.Generator().manual_seed(2)
    masks = torch.randint(CLASSES, (count, SIZE, SIZE), generator=generator, dtype=torch.uint8)
    region = torch.zeros(count, SIZE, SIZE, dtype=torch.bool)
    for index in range(count):
        region[index, 4 : 7 + index, 3 : 9 + index] = True
    return masks, region


# --- masks ---------------------------------------------------------------------------------------------------------


def face(mouth_top: int, mouth_left: int, mouth_width: int) -> np.ndarray:
    """40 px: background 0, skin 1, hair 9; a mouth of upper lip 7, interior 5, lower lip 8, each `width / 6` high."""
    mask = np.zeros((40, 40), np.uint8)
    mask[4:38, 6:34], mask[4:10, 6:34] = 1, 9
    height = mouth_width // 6
    for row, label in enumerate((7, 5, 8)):
        top = mouth_top + row * height
        mask[top : top + height, mouth_left : mouth_left + mouth_width] = label
    return mask


def test_transplanted_mouth_is_scaled_and_centred():
    source, donor = face(28, 15, 12), face(20, 8, 18)
    source[source == 5] = 7  # closed: no mouth interior
    edited = transplant_parts(source, donor, [5, 7, 8])
    top, left, bottom, right = bounding_box(edited, [5, 7, 8])
    old_top, old_left, old_bottom, old_right = bounding_box(source, [5, 7, 8])
    assert abs((right - left) - 1.1 * 12) <= 1 and abs((bottom - top) - 1.1 * 12 * 9 / 18) <= 1
    assert abs((left + right) - (old_left + old_right)) <= 1 and abs((top + bottom) - (old_top + old_bottom)) <= 1
    rows = edited[top:bottom, (left + right) // 2]
    assert list(dict.fromkeys(rows.tolist())) == [7, 5, 8]  # upper lip above interior above lower lip
    outside = np.ones_like(edited, bool)
    outside[min(top, old_top) : max(bottom, old_bottom), min(left, old_left) : max(right, old_right)] = False
    assert (edited[outside] == source[outside]).all()


def test_smaller_donor_mouth_leaves_skin_where_the_old_mouth_was():
    source, donor = face(26, 12, 18), face(20, 10, 12)
    donor[donor == 8] = 1  # a mouth without lower lip: less high than the old one
    edited = transplant_parts(source, donor, [5, 7, 8], scale=0.75)
    gone = np.isin(source, [5, 7, 8]) & ~np.isin(edited, [5, 7, 8])
    assert gone.any() and (edited[gone] == 1).all()


def test_mouth_keeps_its_size_relative_to_the_distance_of_the_eyes():
    source, donor = face(28, 15, 12), face(20, 8, 18)
    for one, left, right in ((source, 10, 26), (donor, 12, 28)):
        one[12:14, left : left + 2], one[12:14, right : right + 2] = 3, 4
    assert size_ratio(source, donor, [3, 4]) == 1.0
    assert size_ratio(source[:, ::2], donor, [3, 4]) == pytest.approx(0.5)
    edited = transplant_parts(source, donor, [5, 7, 8], size_ratio(source, donor, [3, 4]))
    _, left, _, right = bounding_box(edited, [5, 7, 8])
    assert right - left == 18  # the donor's, not 1.1 times the 12 of the source
    donor[donor == 4] = 1
    assert size_ratio(source, donor, [3, 4]) is None


def test_mask_without_mouth_gets_it_where_the_donor_has_it():
    donor = face(25, 12, 12)
    edited = transplant_parts(np.where(np.isin(donor, [5, 7, 8]), 1, donor), donor, [5, 7, 8])
    assert (edited == donor).all()


def test_impossible_transplants_are_refused():
    with pytest.raises(UserError, match="donor"):
        transplant_parts(face(25, 12, 12), np.ones((40, 40), np.uint8), [5, 7, 8])
    with pytest.raises(UserError, match="has only the classes"):
        erase_parts(np.full((4, 4), 5, np.uint8), [5])


def test_erased_pixels_take_the_nearest_label():
    mask = np.array([[1, 5, 5, 5, 2]], np.uint8)
    assert erase_parts(mask, [5])[0].tolist() in ([1, 1, 1, 2, 2], [1, 1, 2, 2, 2])


def test_region_is_the_dilated_union():
    before, after = torch.zeros(2, 24, 24, dtype=torch.uint8), torch.zeros(2, 24, 24, dtype=torch.uint8)
    before[0, 5, 5], before[0, 20, 20], after[1, 10, 12] = 2, 3, 1
    region = edit_region(before, after, [1, 2])
    expected = torch.zeros(2, 24, 24, dtype=torch.bool)
    expected[0, 4:7, 4:7], expected[1, 9:12, 11:14] = True, True
    assert torch.equal(region, expected)
    points = torch.rand(1, 30, 30) > 0.97
    grown = binary_dilation(points[0].numpy(), structure=np.ones((3, 3)), iterations=4)
    assert np.array_equal(dilate(points, 4)[0].numpy(), grown)
    assert [dilation_radius(size) for size in (32, 64, 256, 512, 1024)] == [1, 1, 2, 5, 10]


# --- objective and optimisation ------------------------------------------------------------------------------------


def test_objective_is_the_sum_the_paper_writes(networks):
    G, S, lpips = networks
    masks, region = painted(3)
    start, w_plus = latents(3), latents(3, seed=4)
    images = G.synthesis(start)
    loss = EditObjective(
        generator=G, segmentation=S, lpips=lpips, weights=WEIGHTS, images=images, masks=masks, region=region
    )(w_plus)
    edited, features = G.synthesis_features(w_plus)
    logits = S.mean_logits(features, SIZE)
    for index in range(3):
        keep = (~region[index]).double()
        one, other = edited[index : index + 1] * keep, images[index : index + 1] * keep
        inside = logits[index][:, region[index]].T  # [P, K]
        wanted = masks[index][region[index]].long()
        ce = F.cross_entropy(inside, wanted)
        distance = lpips.distance(lpips.features(one), lpips.features(other))[0]
        mse = F.mse_loss((one + 1) / 2, (other + 1) / 2)
        total = 3 * distance + 2 * mse + ce
        assert torch.allclose(loss.total[index], total, rtol=1e-12)
        assert torch.allclose(loss.followed[index], (inside.argmax(1) == wanted).double().mean())


def test_identity_term_counts_only_with_a_weight(networks):
    G, S, lpips = networks
    masks, region = painted(2)

    def total(weight, identity):
        weights = ObjectiveWeights(lpips=0, mse=0, ce=0, identity=weight)
        images = G.synthesis(latents(2))
        objective = EditObjective(
            generator=G, segmentation=S, lpips=lpips, weights=weights, images=images, masks=masks, region=region,
            identity=identity,
        )  # fmt: skip
        return objective(latents(2, seed=4)).total

    def identity(images):
        return images[:, 0].flatten(1)

    one, other = (identity(G.synthesis(latents(2, seed=seed))) for seed in (1, 4))
    expected = 10 * (1 - (one * other).sum(1) / (one.norm(dim=1) * other.norm(dim=1)))
    assert torch.allclose(total(10, identity), expected) and torch.equal(total(0, identity), torch.zeros(2).double())
    with pytest.raises(ValueError, match="identity"):
        total(10, None)


def test_gradient_of_the_objective_by_finite_differences(networks):
    G, S, lpips = networks
    masks, region = painted(2)
    objective = EditObjective(
        generator=G, segmentation=S, lpips=lpips, weights=WEIGHTS, images=G.synthesis(latents(2)), masks=masks,
        region=region,
    )  # fmt: skip
    assert torch.autograd.gradcheck(lambda w: objective(w).total, latents(2, seed=4).requires_grad_(), fast_mode=True)


def test_images_of_a_batch_are_edited_as_if_alone(networks):
    masks, region = painted(5)
    region[4] = False  # nothing to follow: only the outside counts
    w_plus = latents(5)
    together = edit(*networks, w_plus, masks, region, weights=WEIGHTS, steps=12)
    for index in range(5):
        one = slice(index, index + 1)
        alone = edit(*networks, w_plus[one], masks[one], region[one], weights=WEIGHTS, steps=12)
        assert torch.allclose(alone.w_plus, together.w_plus[one], rtol=0, atol=1e-9)
        assert torch.allclose(alone.best.total, together.best.total[one], rtol=1e-9)


def test_optimisation_follows_the_mask_and_keeps_the_rest(networks):
    G, S, lpips = networks
    _, region = painted(3)
    masks = S.predict(G.synthesis_features(latents(3, seed=6))[1], SIZE)  # something that can be reached
    w_plus = latents(3)
    results = {}
    for name, weight in (("guarded", 10), ("free", 0)):
        weights = ObjectiveWeights(lpips=weight, mse=weight, ce=1)
        results[name] = edit(G, S, lpips, w_plus, masks, region, weights=weights, steps=60)
    guarded, free = results["guarded"], results["free"]
    assert (guarded.best.ce < guarded.start.ce).all() and (free.best.ce < guarded.best.ce).all()
    assert guarded.best.followed.mean() > guarded.start.followed.mean()
    kept, lost = (
        ((G.synthesis(result.w_plus) - G.synthesis(w_plus)) * ~region[:, None]).square().mean()
        for result in (guarded, free)
    )
    assert kept < 0.5 * lost


def test_best_iterate_is_kept_for_each_image_and_updates_are_counted():
    """|w - goal| from steps so large that it overshoots: the best of all iterates must come back."""
    goals, seen = torch.tensor([0.15, 0.35, -1.0]), []

    def objective(w_plus):
        total = (w_plus[:, 0, 0] - goals).abs()
        seen.append(w_plus.detach().clone())
        zero = torch.zeros_like(total)
        return EditLoss(total=total, lpips=zero, mse=zero, ce=zero, identity=zero, followed=zero)

    result = optimize(objective, torch.zeros(3, 1, 1), steps=7, lr=0.1)
    iterates = torch.stack(seen)[:, :, 0, 0]  # [8, 3]
    distance = (iterates - goals).abs()
    assert len(seen) == 8 and torch.equal(result.best.total, distance.min(0).values)
    assert torch.equal(result.w_plus[:, 0, 0], iterates.gather(0, distance.argmin(0)[None])[0])
    assert distance.argmin(0)[0] < 7  # for one image at least it was not the last


# --- vectors and refinement ----------------------------------------------------------------------------------------


def smile(delta: torch.Tensor, scale: float = 1.0) -> EditingVector:
    return EditingVector(
        name="smile", region_classes=("lip", "teeth"), source="val/00003", delta_w_plus=delta, scale=scale, target="t"
    )


def test_applying_is_linear_in_the_scale():
    w_plus, vector = latents(2), smile(latents(1, seed=9)[0], scale=0.5)
    assert torch.equal(apply_vector(w_plus, vector), w_plus + 0.5 * vector.delta_w_plus)
    back = apply_vector(apply_vector(w_plus, vector, 1.5), vector, -1.5)
    assert torch.allclose(back, w_plus) and torch.equal(apply_vector(w_plus, vector, 0), w_plus)
    with pytest.raises(UserError, match="another generator"):
        apply_vector(w_plus[:, :-1], vector)


def test_vector_files_round_trip(tmp_path):
    vector = smile(latents(1)[0].float(), scale=0.75)
    loaded = load_vector(save_vector(tmp_path / "smile.safetensors", vector))
    assert torch.equal(loaded.delta_w_plus, vector.delta_w_plus)
    assert loaded.file == str(tmp_path / "smile.safetensors")
    assert {**vars(loaded), "delta_w_plus": 0, "file": ""} == {**vars(vector), "delta_w_plus": 0}


def test_damaged_and_foreign_vector_files_are_named(tmp_path, networks):
    with pytest.raises(UserError, match="missing"):
        load_vector(tmp_path / "none.safetensors")
    (tmp_path / "cut.safetensors").write_bytes(b"cut")
    with pytest.raises(UserError, match="damaged"):
        load_vector(tmp_path / "cut.safetensors")
    with pytest.raises(UserError, match="not an editing vector"):
        load_vector(save_segmentation(tmp_path / "S.safetensors", networks[1]))
    with pytest.raises(UserError, match="no part called"):
        networks[1].class_ids(["moustache"])


def test_refinement_removes_leaks_and_keeps_the_edit(networks):
    G, S, lpips = networks
    w_plus, vector = latents(5), smile(0.4 * latents(1, seed=9)[0])
    edited = apply_vector(w_plus, vector)
    weights = ObjectiveWeights(lpips=5, mse=20, ce=1)
    refined = refine(G, S, lpips, w_plus, vector, steps=30, weights=weights, batch=2)
    masks = [S.predict(G.synthesis_features(w)[1], SIZE) for w in (w_plus, edited, refined)]
    region = edit_region(masks[0], masks[1], PAINTED)

    def leak(w):
        return ((G.synthesis(w) - G.synthesis(w_plus)) * ~region[:, None]).square().sum()

    followed = (masks[2] == masks[1])[region].double().mean()
    untouched = (masks[0] == masks[1])[region].double().mean()
    assert leak(refined) < 0.6 * leak(edited), (leak(refined), leak(edited))
    assert followed > untouched


def test_refinement_does_not_depend_on_the_batch(networks):
    w_plus, vector = latents(5), smile(0.4 * latents(1, seed=9)[0])
    done = []
    one = refine(*networks, w_plus, vector, steps=8, batch=1)
    many = refine(*networks, w_plus, vector, steps=8, batch=3, progress=lambda *progress: done.append(progress))
    assert torch.allclose(one, many, rtol=0, atol=1e-9) and done == [(3, 5), (5, 5)]
    edited = apply_vector(w_plus, vector)
    assert torch.equal(many, refine_edit(*networks, w_plus, edited, PAINTED, steps=8, batch=3))
