"""Images of a corpus: digits, folders by class, and data sets with a column of images."""

from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
from PIL import Image

from lit_transformer.data.images import find_images
from lit_transformer.data.text import MissingSplit
from lit_transformer.errors import UserError
from tests.helpers.images import make_images


def test_digits_are_split_the_same_way_every_time() -> None:
    pytest.importorskip("sklearn")
    splits = {split: find_images("digits", split=split) for split in ("train", "validation", "test")}
    assert {split: len(images) for split, images in splits.items()} == {"train": 1283, "validation": 257, "test": 257}
    names = [name for images in splits.values() for name in images.names]
    assert len(set(names)) == 1797
    for images in splits.values():
        assert images.classes == tuple("0123456789")
        assert np.bincount(images.labels).min() > 0.07 * len(images)
        assert images.read(0).size == (8, 8)
    with pytest.raises(MissingSplit):
        find_images("digits", split="dev2")


def test_a_folder_by_split_and_class(tmp_path: Path) -> None:
    images = find_images(str(make_images(tmp_path)), split="validation")
    assert images.classes == ("green", "red")
    assert images.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert images.read(3).convert("RGB").getpixel((0, 0))[0] > 200  # type: ignore[index] # red
    assert images.names[3].endswith("1.png") or images.names[3].endswith("0.png")


def test_some_images_alone(tmp_path: Path) -> None:
    images = find_images(str(make_images(tmp_path)), split="train")
    taken = images.take(np.array([7, 2]))
    assert list(taken.names) == [images.names[7], images.names[2]]
    assert taken.labels.tolist() == [1, 0]
    assert taken.version != images.version
    assert np.array_equal(np.asarray(taken.read(1)), np.asarray(images.read(2)))


def test_a_changed_file_is_another_version(tmp_path: Path) -> None:
    folder = make_images(tmp_path)
    before = find_images(str(folder), split="train").version
    Image.new("RGB", (50, 50)).save(folder / "train" / "red" / "0.png")
    assert find_images(str(folder), split="train").version != before


def data_set(labels: Any) -> datasets.DatasetDict:
    images = [Image.new("L", (5, 5), value) for value in (10, 20, 30)]
    columns = {"picture": images, "label": labels[0]}
    features = datasets.Features({"picture": datasets.Image(), "label": labels[1]})
    return datasets.DatasetDict(train=datasets.Dataset.from_dict(columns, features=features))


LABELS = {
    "names": ([1, 0, 1], datasets.ClassLabel(names=["b", "a"]), ("b", "a"), [1, 0, 1]),
    "strings": (["y", "x", "y"], datasets.Value("string"), ("x", "y"), [1, 0, 1]),
    "numbers": ([7, 3, 7], datasets.Value("int64"), ("3", "7"), [1, 0, 1]),
}


@pytest.mark.parametrize(("values", "feature", "classes", "labels"), LABELS.values(), ids=LABELS)
@pytest.mark.parametrize("place", ["folder", "hub"])
def test_a_data_set(
    values: Any,
    feature: Any,
    classes: tuple[str, ...],
    labels: list[int],
    place: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """From the Hub, and from a folder with a copy."""
    found = data_set((values, feature))
    corpus = "somebody/pictures"
    if place == "folder":
        (tmp_path / "data").mkdir()
        found["train"].to_parquet(tmp_path / "data" / "train-00000-of-00001.parquet")
        corpus = str(tmp_path)
    else:
        monkeypatch.setattr("lit_transformer.data.hub._check_reachable", lambda name: None)
        monkeypatch.setattr(datasets, "load_dataset", lambda *_: found)
    images = find_images(corpus, split="train")
    assert (images.classes, images.labels.tolist()) == (classes, labels)
    assert [np.asarray(images.read(row)).max() for row in range(3)] == [10, 20, 30]
    with pytest.raises(MissingSplit):
        find_images(corpus, split="valid")


@pytest.mark.parametrize(
    ("columns", "named"),
    [({"text": ["a"]}, "text"), ({"label": [1]}, "label"), ({"picture": [1], "image": [2]}, "picture, image")],
)
def test_a_data_set_without_images_or_classes(
    columns: dict[str, Any], named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = datasets.DatasetDict(train=datasets.Dataset.from_dict(columns))
    monkeypatch.setattr("lit_transformer.data.hub._check_reachable", lambda name: None)
    monkeypatch.setattr(datasets, "load_dataset", lambda *_: found)
    with pytest.raises(UserError, match=named):
        find_images("somebody/text", split="train")


def test_a_row_without_a_class(monkeypatch: pytest.MonkeyPatch) -> None:
    found = data_set(([1, -1, 0], datasets.ClassLabel(names=["b", "a"])))
    monkeypatch.setattr("lit_transformer.data.hub._check_reachable", lambda name: None)
    monkeypatch.setattr(datasets, "load_dataset", lambda *_: found)
    with pytest.raises(UserError, match="row 1"):
        find_images("somebody/pictures", split="train")


def test_what_is_no_folder_of_images(tmp_path: Path) -> None:
    folder = make_images(tmp_path / "images")
    (folder / "train" / "blue").mkdir()
    with pytest.raises(UserError, match="blue"):
        find_images(str(folder), split="train")
    with pytest.raises(MissingSplit, match="extra"):
        find_images(str(folder), split="extra")
    (tmp_path / "file.png").touch()
    with pytest.raises(UserError, match=r"file\.png"):
        find_images(str(tmp_path / "file.png"), split="train")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="empty"):
        find_images(str(tmp_path / "empty"), split="train")
