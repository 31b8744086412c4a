"""The data of image classifiers: corpus -> images of one size -> plan -> batches. It does not know the model."""

import hashlib
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch

from lit_transformer.batch import NO_LABEL, SEED, ImageBatch, IntArray
from lit_transformer.data import CACHE_DIR
from lit_transformer.data.batching import PLAN_VERSION, BatchPlan
from lit_transformer.data.cache import LateCheck, make_once, sealed_file, seems_whole
from lit_transformer.data.images import Images, find_images
from lit_transformer.data.loaders import LoadedData, check_least
from lit_transformer.data.pixels import MODES, read_pixels
from lit_transformer.data.text import MissingSplit
from lit_transformer.data.validation import ValidationBatches
from lit_transformer.errors import UserError
from lit_transformer.files import expanded
from lit_transformer.notes import counted
from lit_transformer.progress import progress

IMAGE_VERSION = 1
"""Raise it if the same images give other pixels."""


@dataclass(frozen=True)
class ImageAssembler:
    """Makes micro-batches of prepared images.

    Args:
        path: The file with their pixels.
        labels: Their classes.
    """

    path: Path
    labels: IntArray

    def num_target_tokens(self, rows: IntArray) -> int:
        """Return the number of these images."""
        return len(rows)

    def batch(self, rows: IntArray, *, step_target_tokens: int = 0, step: int = 0, micro_batch: int = 0) -> ImageBatch:
        """Return these images as a micro-batch."""
        pixels = np.load(self.path, mmap_mode="r")
        if not len(rows):
            return filler(pixels.shape[1:], step_target_tokens=step_target_tokens, step=step, micro_batch=micro_batch)
        images, labels = torch.from_numpy(np.array(pixels[rows])), torch.from_numpy(self.labels[rows])
        return ImageBatch(images, labels, len(rows), len(rows), step_target_tokens, step, micro_batch)


def filler(shape: tuple[int, ...], *, step_target_tokens: int = 0, step: int = 0, micro_batch: int = 0) -> ImageBatch:
    """Return a batch without a class to predict.

    Args:
        shape: Of an image.
        step_target_tokens: As in `ImageBatch`, like the next two.
        step: The optimizer step.
        micro_batch: Its number.
    """
    image = torch.zeros(1, *shape, dtype=torch.uint8)
    return ImageBatch(image, torch.tensor([NO_LABEL]), 0, 0, step_target_tokens, step, micro_batch)


class ImageData(LoadedData):
    """Images of a corpus and their classes, in batches of a fixed number of images.

    With a trainer, `image_size`, `num_channels` and `seed` are the module's, unless they are given. All images are
    brought to this size, and those with other proportions are stretched.

    Args:
        corpus: `digits` (handwritten, bundled with scikit-learn), a folder of SPLIT/CLASS folders of images, or a Hub
            data set, or a folder with one, that has a column of images and one of classes.
        valid_images: Number of training images to hold out for validation, in place of the split `valid`.
        image_size: Height and width. By default the model's, or without a model 8.
        num_channels: 1 for gray, 3 for red, green and blue, 4 with transparency. By default the model's, or without a
            model 1.
        images_per_batch: Images per optimizer step, over all devices.
        max_images_per_device: Images that a device takes at a time, also in validation. Larger steps are accumulated.
            `auto` takes as many as fit into a GPU's memory.
        cache_dir: Folder for prepared images.
        num_workers: Processes that assemble batches. By default, one for a GPU and none for a CPU.
        seed: Determines the order of the training images. By default the model's, or without a model 1.
    """

    row: ClassVar[str] = "image"
    unit: ClassVar[str] = "image"
    predicted: ClassVar[str] = "images"
    step_setting: ClassVar[str] = "images_per_batch"
    device_setting: ClassVar[str] = "max_images_per_device"
    # By `prepare_data`:
    train: Images
    valid: Images
    classes: tuple[str, ...]

    def __init__(
        self,
        corpus: str = "digits",
        valid_images: int = 0,
        image_size: int | None = None,
        num_channels: int | None = None,
        images_per_batch: int = 128,
        max_images_per_device: int | Literal["auto"] = 512,
        cache_dir: str = CACHE_DIR,
        num_workers: int | None = None,
        seed: int | None = None,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        check_least(
            ("valid_images", valid_images, 0),
            ("image_size", image_size, 1),
            ("images_per_batch", images_per_batch, 1),
            ("max_images_per_device", max_images_per_device, 1),
            ("num_workers", num_workers, 0),
        )
        self.corpus = corpus
        self.valid_images = valid_images
        self.images_per_batch = images_per_batch
        self.max_tokens_per_device: int | Literal["auto"] = max_images_per_device
        self.cache_dir = expanded(cache_dir)
        self.num_workers = num_workers
        self._given = (image_size, num_channels, seed)
        self._follow_module()

    def assembler(self, *, count: int = 0, margin: float = 1.0) -> ImageAssembler:  # noqa: ARG002 # for packed pairs
        """Return what makes micro-batches of training images. After `setup`."""
        return ImageAssembler(self._pixels(self.train, "training"), self.train.labels)

    @property
    def length_setting(self) -> str:
        return "image_size"

    @property
    def title(self) -> str:
        """The corpus."""
        return f"images, corpus {self.corpus}"

    @property
    def counts(self) -> list[str]:
        """Counts of images. After `prepare_data`."""
        size = f"{self.image_size} x {self.image_size} pixels, {counted(self.num_channels, 'channel')}"
        held_out = " held out of the training images" if self.valid_images else ""
        classes = counted(len(self.classes), "class", "classes")
        return [
            f"training: {counted(len(self.train), 'image')} of {classes}, {size}",
            f"validation: {counted(len(self.valid), 'image')}{held_out}",
        ]

    @property
    def warnings(self) -> list[str]:
        """What is wrong with the images, each with its remedy. After `setup`."""
        missing = [name for number, name in enumerate(self.classes) if number not in self.train.labels]
        if not missing:
            return []
        return [f"there is no training image of {', '.join(missing[:5])}, which the model cannot learn: add some"]

    @property
    def fingerprint(self) -> str:
        """Identifies the training images and their order. After `prepare_data`."""
        settings = (PLAN_VERSION, self._key(self.train), self.images_per_batch, self.seed)
        return hashlib.blake2b(repr(settings).encode(), digest_size=8).hexdigest()

    def describe_step(self, step: int) -> str:
        """Describe the images of an optimizer step (counted from 0), for a person who looks for a mistake."""
        rows = self.plan.step_rows(self.epochs.plan_step(step))
        return f"{counted(len(rows), self.row)}, the first: {self.train.names[rows[0]]}"

    def test_dataloader(self) -> ValidationBatches[Any]:
        """Return this rank's part of the split `test`. No image is on two ranks."""
        return self._of_rank(self.test_batches, self.trainer.limit_test_batches if self.trainer else 1.0)

    @property
    def test_batches(self) -> list[ImageBatch]:
        """The batches of the split `test`. After `setup`."""
        return self._batches(self._others("test"), "test")

    def pixels(self, split: Literal["train", "test"]) -> tuple[IntArray, IntArray]:
        """Return the pixels of all images of a split, and their classes."""
        images = self.train if split == "train" else self._others(split)
        return np.load(self._pixels(images, split)), images.labels

    def _follow_module(self) -> bool:
        former = getattr(self, "_followed", None)
        defaults = {"image_size": 8, "num_channels": 1, "seed": SEED}
        found = [getattr(self._model, name, default) for name, default in defaults.items()]
        self._followed = [own if given is None else given for own, given in zip(found, self._given, strict=True)]
        self.image_size, self.num_channels, self.seed = self._followed
        if self.num_channels not in MODES:
            raise UserError(f"num_channels is {self.num_channels}: choose one of {', '.join(map(str, MODES))}")
        return former != self._followed

    def _find_text(self) -> None:
        train = find_images(self.corpus, split="train")
        self.classes = train.classes
        if self.valid_images >= len(train):
            raise UserError(f"valid_images is {self.valid_images}: there are {len(train):,} training images")
        if self.valid_images:
            # Evenly spaced, so that all classes are among them, also if the images are sorted by class.
            rows = np.arange(self.valid_images) * len(train) // self.valid_images
            self.train, self.valid = train.take(np.setdiff1d(np.arange(len(train)), rows)), train.take(rows)
        else:
            self.train, self.valid = train, self._others("valid")

    def _tokenize(self) -> LateCheck:
        return LateCheck(self._pixels(self.train, "training"))

    def _validation_batches(self) -> list[ImageBatch]:
        return self._batches(self.valid, "validation")

    def _make_plan(self) -> BatchPlan:
        lengths = np.ones(len(self.train), dtype=np.int32)
        return BatchPlan(lengths, lengths, self.images_per_batch, self.seed)

    @property
    def _filler(self) -> ImageBatch:
        return filler((self.num_channels, self.image_size, self.image_size))

    def _others(self, split: str) -> Images:
        """Find images that are not trained on, with the classes of training.

        Raises:
            UserError: There is no such split, or it has a class that training has not.
        """
        try:
            images = find_images(self.corpus, split=split)
        except MissingSplit as error:
            remedy = "; or give valid_images, to hold training images out" if split == "valid" else ""
            raise UserError(f"{error}{remedy}") from error
        numbers = {name: number for number, name in enumerate(self.classes)}
        if unknown := [name for name in images.classes if name not in numbers]:
            raise UserError(
                f"corpus {self.corpus}: the split {split} has the class {unknown[0]}, which the training images lack; "
                "add some, or remove it"
            )
        order = np.array([numbers[name] for name in images.classes])
        return Images(images.names, order[images.labels], self.classes, images.read, images.version)

    def _batches(self, images: Images, split: str) -> list[ImageBatch]:
        """Return images in their order. Their pixels stay on disk until they are needed."""
        pixels = np.load(self._pixels(images, split), mmap_mode="c")
        limit = 256 if self.max_tokens_per_device == "auto" else self.max_tokens_per_device
        batches = []
        for begin in range(0, len(images), limit):
            labels = torch.from_numpy(images.labels[begin : begin + limit])
            part = torch.from_numpy(pixels[begin : begin + limit])
            batches.append(ImageBatch(part, labels, len(labels), len(labels), 0, 0, 0))
        return batches

    def _key(self, images: Images) -> str:
        settings = (IMAGE_VERSION, images.version, self.image_size, self.num_channels)
        return hashlib.blake2b(repr(settings).encode(), digest_size=16).hexdigest()

    def _pixels(self, images: Images, split: str) -> Path:
        """Return the file with the pixels of images. The cache keeps it."""
        path = self.cache_dir / "images" / f"{self._key(images)}.npy"
        make_once(path, is_ready=lambda: seems_whole(path), make=lambda: self._write(images, split, path))
        return path

    def _write(self, images: Images, split: str, path: Path) -> None:
        shape = (len(images), self.num_channels, self.image_size, self.image_size)
        with sealed_file(path) as unfinished, progress(f"reading {split} images", len(images), "image") as advance:
            pixels = np.lib.format.open_memmap(unfinished, mode="w+", dtype=np.uint8, shape=shape)
            for row, name in enumerate(images.names):
                pixels[row] = read_pixels(
                    partial(images.read, row), name, image_size=self.image_size, num_channels=self.num_channels
                )
                advance(1)
            pixels.flush()
