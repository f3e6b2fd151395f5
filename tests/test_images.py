import pytest
import torch

from editgan import images
from editgan.errors import UserError


def test_uint8_survives_the_round_trip_through_float():
    every = torch.arange(256, dtype=torch.uint8).repeat(3, 1).reshape(1, 3, 16, 16)
    assert torch.equal(images.to_uint8(images.to_float(every)), every)
    assert images.to_float(every).min() == -1 and images.to_float(every).max() == 1


def test_to_float_refuses_float_input():
    with pytest.raises(TypeError, match="uint8"):
        images.to_float(torch.zeros(1, 3, 4, 4))


def test_grid_places_images_row_by_row():
    tiles = torch.stack([torch.full((3, 4, 4), value, dtype=torch.uint8) for value in (10, 20, 30)])
    picture = images.image_grid(tiles, columns=2, scale=3)
    assert picture.size == (24, 24)
    assert [picture.getpixel(at)[0] for at in ((0, 0), (23, 0), (0, 23), (23, 23))] == [10, 20, 30, 255]


def test_labelled_grid_keeps_one_row_an_example():
    dark, bright = torch.zeros(2, 3, 8, 8, dtype=torch.uint8), torch.full((2, 3, 8, 8), 200, dtype=torch.uint8)
    picture = images.labelled_grid({"before": dark, "after": bright}, scale=4, gap=0)
    bottom = picture.height - 1
    assert picture.getpixel((1, bottom))[0] == 0 and picture.getpixel((picture.width - 1, bottom))[0] == 200
    with pytest.raises(ValueError, match="equal shapes"):
        images.labelled_grid({"before": dark, "after": bright[:1]})


def test_colourize():
    palette = torch.tensor([[0, 0, 0], [200, 100, 50]], dtype=torch.uint8)
    masks = torch.tensor([[[0, 1]]])
    assert images.colourize(masks, palette)[0, :, 0, 1].tolist() == [200, 100, 50]


def test_reading_says_what_is_wrong(tmp_path):
    with pytest.raises(UserError, match="no such image"):
        images.read_image(tmp_path / "absent.png")
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"\x89PNG\r\n\x1a\n no picture")
    with pytest.raises(UserError, match="broken.png"):
        images.read_image(broken)
    path = images.save_png(tmp_path / "wide.png", images.to_pil(torch.zeros(3, 4, 6, dtype=torch.uint8)))
    with pytest.raises(UserError, match="6x4.*8x8"):
        images.read_image(path, resolution=8)
    assert images.read_image(path).shape == (3, 4, 6)


def test_heatmap_runs_from_black_to_white():
    picture = images.heatmap(torch.tensor([[[0.0, 2.0]]]))
    assert picture[0, :, 0, 0].tolist() == [0, 0, 0] and picture[0, :, 0, 1].tolist() == [255, 255, 255]
