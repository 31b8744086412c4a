"""From an image file to the numbers that a model reads.

Legend: B batch, C channels, H height, W width.
"""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor

from lit_transformer.errors import UserError, innermost_reason

MODES = {1: "L", 3: "RGB", 4: "RGBA"}
"""Pillow's names for images with this many channels."""
DEEP_MODES = ("I", "F", "I;")
"""Begin the names of images with more than 8 bits per channel, which Pillow would cut to their lowest 255 values."""

Pixels = NDArray[np.uint8]


def read_pixels(read: Callable[[], Image.Image], name: str, *, image_size: int, num_channels: int) -> Pixels:
    """Read an image and bring it to a size.

    Args:
        read: Opens the image.
        name: Its file or row, for errors.
        image_size: Height and width. Images with other proportions are stretched.
        num_channels: 1 for gray, 3 for red, green and blue, or 4 with transparency.

    Returns:
        Channels x height x width, from 0 to 255.

    Raises:
        UserError: The image cannot be read.
    """
    try:
        with read() as image:
            if image.mode.startswith(DEEP_MODES):
                raise UserError(f"{name} has more than 8 bits per channel: convert it to 8 bits")
            # Cameras store how they were held. Then the image is turned.
            upright = ImageOps.exif_transpose(image).convert(MODES[num_channels])
        if upright.size != (image_size, image_size):
            upright = upright.resize((image_size, image_size), Image.Resampling.BILINEAR)
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
        raise UserError(f"cannot read the image {name}: {innermost_reason(error)}; replace or remove it") from error
    return np.asarray(upright).reshape(image_size, image_size, num_channels).transpose(2, 0, 1)


def normalized(pixel_BCHW: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """Pixels from 0 to 255 as numbers from -1 to 1, as ViT's authors have them."""
    return pixel_BCHW.to(dtype) / 127.5 - 1.0
