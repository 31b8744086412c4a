"""Images become numbers of one size."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from lit_transformer.data.pixels import normalized, read_pixels
from lit_transformer.errors import UserError


def gray(pixels: list[list[int]]) -> Image.Image:
    return Image.fromarray(np.array(pixels, dtype=np.uint8))


def test_pixels_stay_where_the_size_fits() -> None:
    pixels = read_pixels(lambda: gray([[1, 2], [3, 255]]), "it", image_size=2, num_channels=1)
    assert pixels.tolist() == [[[1, 2], [3, 255]]]


def test_channels_come_first() -> None:
    image = Image.new("RGB", (2, 2), (7, 8, 9))
    assert read_pixels(lambda: image, "it", image_size=2, num_channels=3)[:, 0, 0].tolist() == [7, 8, 9]
    assert read_pixels(lambda: gray([[5]]), "it", image_size=1, num_channels=3).flatten().tolist() == [5, 5, 5]


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr"])
@pytest.mark.parametrize("num_channels", [1, 3, 4])
def test_every_image_has_the_size_of_the_model(mode: str, num_channels: int) -> None:
    image = Image.new("RGB", (11, 5), (255, 255, 255)).convert(mode)
    pixels = read_pixels(lambda: image, "it", image_size=7, num_channels=num_channels)
    assert pixels.shape == (num_channels, 7, 7)
    assert (pixels > 250).all()


def test_an_image_is_turned_as_the_camera_was_held() -> None:
    image, file = gray([[0, 0], [255, 255]]).resize((16, 16)), io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    image.save(file, "PNG", exif=exif)
    pixels = read_pixels(lambda: Image.open(file), "it", image_size=16, num_channels=1)[0]
    assert pixels[0].mean() > 200 > 50 > pixels[-1].mean()


@pytest.mark.parametrize("mode", ["I;16", "I", "F"])
def test_more_than_8_bits_are_not_cut(mode: str) -> None:
    with pytest.raises(UserError, match=r"photo\.png .*8 bits"):
        read_pixels(lambda: Image.new(mode, (4, 4)), "photo.png", image_size=4, num_channels=1)


@pytest.mark.parametrize("content", [b"", b"no image", b"\x89PNG\r\n\x1a\n broken"])
def test_a_broken_image_is_named(content: bytes) -> None:
    with pytest.raises(UserError, match=r"photo\.png"):
        read_pixels(lambda: Image.open(io.BytesIO(content)), "photo.png", image_size=4, num_channels=1)


def test_numbers_are_from_minus_one_to_one() -> None:
    numbers = normalized(torch.tensor([[[[0, 255]]]], dtype=torch.uint8))
    assert numbers.dtype == torch.float32
    assert numbers.flatten().tolist() == [-1.0, 1.0]
