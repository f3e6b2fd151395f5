"""InterFaceGAN and LocalEditing on planted directions, parts and channels."""

from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F

from editgan.data.archive import write_archive
from editgan.data.protocol import SMILE
from editgan.data.renderers import PROTOCOLS
from editgan.errors import UserError
from editgan.generator.generator import Generator
from editgan.methods.interfacegan import direction as interfacegan
from editgan.methods.interfacegan.stage import condition_boundaries, known_conditions
from editgan.methods.localediting import channels as localediting
from editgan.methods.localediting.channels import Contributions, channel_mask, convolutions, part_clusters


def planted(count: int = 2000, noise: float = 0.05) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Latents [N, 12], scores that grow along one direction, that direction."""
    generator = torch.Generator().manual_seed(0)
    w, direction = torch.randn(count, 12, generator=generator), F.normalize(torch.arange(12.0) - 4, dim=0)
    return w, w @ direction + noise * torch.randn(count, generator=generator), direction


def test_boundary_finds_the_planted_direction():
    w, scores, direction = planted()
    found = interfacegan.find_boundary(w, scores, generator=torch.Generator().manual_seed(1))
    assert float(found.normal @ direction) > 0.9 and float(found.normal.norm()) == pytest.approx(1, abs=1e-6)
    assert found.accuracy == 1 and found.accuracy_others > 0.85


def test_boundary_of_scores_without_a_direction_is_known_to_be_worthless():
    w, _, _ = planted()
    scores = torch.randn(len(w), generator=torch.Generator().manual_seed(2))
    found = interfacegan.find_boundary(w, scores, generator=torch.Generator().manual_seed(1))
    assert found.accuracy < 0.8 and found.accuracy_others < 0.65


@pytest.mark.parametrize("count", [10, 2000])
def test_boundary_needs_two_classes(count):
    with pytest.raises(ValueError, match="cannot form two classes"):
        interfacegan.find_boundary(torch.randn(count, 4), torch.zeros(count), generator=torch.Generator())


def test_conditional_direction_leaves_the_conditions_alone():
    torch.manual_seed(0)
    normal, conditions = F.normalize(torch.randn(12), dim=0), F.normalize(torch.randn(3, 12), dim=1)
    found = interfacegan.conditional(normal, conditions)
    assert (conditions @ found).abs().max() < 1e-6 and float(found.norm()) == pytest.approx(1, abs=1e-6)
    one = interfacegan.conditional(normal, conditions[:1])
    formula = normal - (normal @ conditions[0]) * conditions[0]  # section 3.3
    torch.testing.assert_close(one, formula / formula.norm())


def test_spherical_kmeans_finds_planted_directions():
    generator = torch.Generator().manual_seed(0)
    directions = F.normalize(torch.randn(4, 16, generator=generator), dim=1)
    pixels = directions.repeat_interleave(2500, 0) + 0.1 * torch.randn(10000, 16, generator=generator)
    centres = localediting.spherical_kmeans(F.normalize(pixels, dim=1), 4, generator=generator)
    nearest = (centres @ directions.T).max(0)
    assert nearest.values.min() > 0.98 and len(set(nearest.indices.tolist())) == 4


def test_clusters_of_a_part_are_those_that_overlap_it():
    assigned = torch.zeros(1, 8, 8, dtype=torch.long)
    assigned[:, 4:, :4], assigned[:, 4:, 4:], assigned[:, 0, 0] = 1, 2, 3
    part = torch.zeros(1, 8, 8, dtype=torch.bool)
    part[:, 4:] = True
    assert sorted(part_clusters(assigned, part, 5)) == [1, 2]
    part[:] = False
    part[:, 0, :2] = True
    assert part_clusters(assigned, part, 5) == [3], "a small cluster within, not the large one around it"
    assert len(part_clusters(assigned, torch.zeros_like(part), 5)) == 1


def test_contributions_tell_channels_of_a_part_whatever_the_batches():
    generator = torch.Generator().manual_seed(0)
    part = torch.zeros(6, 8, 8, dtype=torch.bool)
    part[:, 4:6, 2:6] = True
    within = F.interpolate(part[:, None].float(), size=4, mode="nearest-exact")
    maps = [torch.randn(6, 3, 8, 8, generator=generator), torch.randn(6, 2, 4, 4, generator=generator)]
    maps[0][:, 0] *= part  # acts within the part alone
    maps[0][:, 1] *= ~part
    maps[1][:, 0] *= within[:, 0]
    whole, parts = Contributions(), Contributions()
    whole.add(maps, part)
    for part_of in (slice(0, 1), slice(1, 4), slice(4, 6)):
        parts.add([x[part_of] for x in maps], part[part_of])
    first, second = whole.shares()
    assert first[0] > 0.95 and first[1] < 0.05 and first[2] == pytest.approx(part.float().mean().item(), abs=0.05)
    assert second[0] > 0.9 > second[1]
    for one, other in zip(whole.shares(), parts.shares(), strict=True):
        torch.testing.assert_close(one, other)


def test_channel_mask_follows_rho_and_epsilon():
    shares = torch.tensor([0.1, 0.9, 0.8, 0.3])
    assert channel_mask(shares, rho=0, epsilon=0.2).tolist() == [False, True, False, False]
    assert channel_mask(shares, rho=0, epsilon=0.4).tolist() == [False, True, True, False]
    assert channel_mask(shares, rho=0.2, epsilon=9).tolist() == [False, True, True, True]


def test_swapped_styles_reach_from_nothing_to_the_reference():
    torch.manual_seed(0)
    config = dict(z_dim=8, w_dim=8, img_resolution=16, channel_base=64, channel_max=8, num_mapping_layers=1)
    G, (target, reference) = Generator(**config).eval(), torch.randn(2, 1, 6, 8)
    styles = [style[0] for style in localediting.styles_of(G, reference)]
    everything = [torch.ones_like(style) for style in styles]
    with torch.no_grad():
        plain = G.synthesis(target)
        with localediting.swapped_styles(G, everything, styles, 0.0):
            torch.testing.assert_close(G.synthesis(target), plain)
        with localediting.swapped_styles(G, everything, styles, 1.0):
            swapped = G.synthesis_features(target)[1]
        for one, other in zip(swapped, G.synthesis_features(reference)[1], strict=True):
            torch.testing.assert_close(one, other)
        with localediting.swapped_styles(G, [0 * q for q in everything], styles, 1.0):
            torch.testing.assert_close(G.synthesis(target), plain)
        torch.testing.assert_close(G.synthesis(target), plain)  # given back
    widths = [layer.affine.weight.shape[0] for layer in convolutions(G)]
    assert widths == [x.shape[1] for x in swapped[:-1]], "convolution i takes map i"


def test_conditions_are_what_all_pictures_have_and_differ_in():
    row = {"masculine": 1.0, "age": 0.5, "yaw": 0.1}
    assert known_conditions([row, {**row, "yaw": 0.2}]) == ["yaw"]
    assert known_conditions([row, {"masculine": 0.0, "yaw": 0.2}]) == ["masculine", "yaw"]


def test_a_class_that_leaves_nothing_alone_has_an_unchanged_direction():
    normal = F.normalize(torch.arange(1.0, 6.0), dim=0)
    torch.testing.assert_close(interfacegan.conditional(normal, normal[None][:0]), normal)
    alone = PROTOCOLS["cars"].model_copy(update={"conditions": ()})
    assert condition_boundaries(SimpleNamespace(input=None), alone, 1) == {}


def test_pictures_that_do_not_say_what_is_to_be_left_alone_are_refused(tmp_path):
    rows = [{"age": 0.5, "yaw": 0.1}, {"age": 0.5}]
    write_archive(tmp_path / "train_labels.zip", attributes=rows)
    params = SimpleNamespace(interfacegan=SimpleNamespace(condition_heads=len(rows)))
    context = SimpleNamespace(params=params, input=lambda _: tmp_path)
    with pytest.raises(UserError, match="none of masculine, age, yaw is given for all training pictures"):
        condition_boundaries(context, SMILE, 1)
