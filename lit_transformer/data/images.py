"""Images of a corpus with their classes: handwritten digits, folders by class, and data sets with an image column."""

import hashlib
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import datasets
import numpy as np
from PIL import Image

from lit_transformer.batch import IntArray
from lit_transformer.data.hub import load_split
from lit_transformer.data.places import find_places
from lit_transformer.data.text import MissingSplit, bars_on_terminals, split_names
from lit_transformer.errors import UserError, innermost_reason

DIGITS = "digits"
SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm"}


@dataclass(frozen=True, eq=False)
class Images:
    """The images of a split, which are read one by one, and their classes.

    Args:
        names: File or row of each image, for errors.
        labels: The class of each image.
        classes: The names of all classes.
        read: Opens an image, given its number.
        version: Identifies the content.
    """

    names: Sequence[str]
    labels: IntArray
    classes: tuple[str, ...]
    read: Callable[[int], Image.Image]
    version: str

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: IntArray) -> Self:
        """Return these images alone."""
        return replace(
            self,
            names=[self.names[row] for row in rows],
            labels=self.labels[rows],
            read=lambda number: self.read(int(rows[number])),
            version=f"{self.version} {hashlib.blake2b(rows.tobytes()).hexdigest()}",
        )


def find_images(corpus: str, *, split: str) -> Images:
    """Find the images of one split.

    Args:
        corpus: `digits`, a folder of SPLIT/CLASS folders, a folder with a data set of Hugging Face, or a name on the
            Hub, with a configuration after a colon.
        split: Name of the split. `valid`, `validation`, `val` and `dev` mean the same.

    Raises:
        UserError: There is no such corpus or split, or it has no images with classes.
    """
    if corpus == DIGITS:
        return _digits(split)
    places, configuration = find_places(corpus, source=split, target=split)
    if not places:
        return _of_data_set(load_split(corpus, split=split), corpus, split)
    if len(places) > 1 or not places[0].is_dir():
        raise UserError(f"corpus {corpus} is a file: give a folder with a folder for each split and class")
    folder = next((places[0] / name for name in split_names(split) if (places[0] / name).is_dir()), None)
    if folder is not None and any(each.is_dir() for each in folder.iterdir()):
        return _of_folder(folder)
    if any(each.is_dir() for each in places[0].glob("*/*")):
        raise MissingSplit(f"corpus {corpus} has no folder {split}: add one with a folder for each class")
    return _of_data_set(_load_folder(places[0], configuration, split), corpus, split)


def _digits(split: str) -> Images:
    """Find 1,797 handwritten digits of 8 x 8 pixels. Every seventh is for validation, and the next one for the test."""
    try:
        # Here, because scikit-learn is an extra.
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise UserError(
            'corpus digits needs scikit-learn, which is not installed: pip install "lit-transformer[images]"'
        ) from error
    digits = load_digits()
    place = np.arange(len(digits.target)) % 7
    masks = {"train": place > 1, "valid": place == 0, "test": place == 1}
    found = [masks[name] for name in split_names(split) if name in masks]
    if not found:
        raise MissingSplit(f"corpus digits has no split {split}: it has {', '.join(masks)}")
    [rows] = np.nonzero(found[0])
    pixels = (digits.images * 15).astype(np.uint8)  # from 0 to 16
    everything = Images(
        [f"digits, row {row}" for row in range(len(pixels))],
        digits.target.astype(np.int64),
        tuple(str(name) for name in digits.target_names),
        lambda row: Image.fromarray(pixels[row]),
        hashlib.blake2b(pixels.tobytes()).hexdigest(),
    )
    return everything.take(rows)


def _of_folder(folder: Path) -> Images:
    classes = tuple(sorted(each.name for each in folder.iterdir() if each.is_dir() and each.name[0] != "."))
    files: list[Path] = []
    labels = []
    for label, name in enumerate(classes):
        found = sorted(path for path in (folder / name).iterdir() if path.suffix.lower() in SUFFIXES)
        if not found:
            raise UserError(f"{folder / name} has no images ({', '.join(sorted(SUFFIXES))}): add some, or remove it")
        files += found
        labels += [label] * len(found)
    states = [(str(path), (status := path.stat()).st_size, status.st_mtime_ns) for path in files]
    return Images(
        [str(path) for path in files],
        np.array(labels, dtype=np.int64),
        classes,
        lambda row: Image.open(files[row]),
        hashlib.blake2b(repr(states).encode()).hexdigest(),
    )


def _load_folder(folder: Path, configuration: str | None, split: str) -> Any:
    try:
        with bars_on_terminals():
            splits = datasets.load_dataset(str(folder), configuration)
    except Exception as error:  # each format has its own exceptions
        raise UserError(
            f"cannot read {folder} as images: {innermost_reason(error)}; give a folder of SPLIT/CLASS folders"
        ) from error
    found = next((name for name in split_names(split) if name in splits), None)
    if found is None:
        raise MissingSplit(f"corpus {folder} has no split {split}: it has {', '.join(splits)}")
    return splits[found]


def _of_data_set(rows: Any, corpus: str, split: str) -> Images:
    """Take the one column of images of a data set, and its classes."""
    features = rows.features
    images = [name for name, feature in features.items() if isinstance(feature, datasets.Image)]
    labels = [name for name, feature in features.items() if isinstance(feature, datasets.ClassLabel)]
    labels = labels or [name for name in ("label", "labels") if name in features]
    if len(images) != 1 or len(labels) != 1:
        raise UserError(
            f"corpus {corpus} has the columns {', '.join(features)}: it must have one of images, and one of classes "
            "(ClassLabel, or named label)"
        )
    values = rows[labels[0]][:]
    feature = features[labels[0]]
    classes = feature.names if isinstance(feature, datasets.ClassLabel) else sorted(set(values), key=str)
    known = list(range(len(classes))) if isinstance(feature, datasets.ClassLabel) else classes
    numbers = {value: number for number, value in enumerate(known)}
    if None in (found := [numbers.get(value) for value in values]):
        raise UserError(f"corpus {corpus}: row {found.index(None)} of split {split} has no class; remove it")
    encoded = rows.cast_column(images[0], datasets.Image(decode=False))

    def read(row: int) -> Image.Image:
        file = encoded[row][images[0]]
        return Image.open(file["path"] if file["bytes"] is None else io.BytesIO(file["bytes"]))

    return Images(
        [f"of row {row} of split {split} of {corpus}" for row in range(len(values))],
        np.array(found, dtype=np.int64),
        tuple(map(str, classes)),
        read,
        repr((corpus, split, len(values), rows.cache_files)),
    )
