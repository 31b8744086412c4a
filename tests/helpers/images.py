"""A folder of small images by split and class."""

from pathlib import Path

import numpy as np
from PIL import Image

COLORS = {"green": (30, 200, 40), "red": (220, 20, 30)}


def make_images(folder: Path, *, train: int = 5, valid: int = 3, test: int = 2) -> Path:
    """Write noisy images of one color each, which differ in size."""
    random = np.random.default_rng(0)
    for split, number in (("train", train), ("valid", valid), ("test", test)):
        for name, color in COLORS.items():
            (folder / split / name).mkdir(parents=True)
            for row in range(number):
                noise = random.integers(0, 30, (7 + row, 11, 3))
                pixels = np.clip(np.array(color) + noise, 0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(folder / split / name / f"{row}.png")
    return folder
