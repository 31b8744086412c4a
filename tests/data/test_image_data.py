"""The data of image classifiers."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lit_transformer.batch import NO_LABEL
from lit_transformer.data.image_data import ImageData
from lit_transformer.data.stream import TrainingStream
from lit_transformer.errors import UserError
from tests.helpers.images import make_images


def make_data(folder: Path, **settings: object) -> ImageData:
    options = {"image_size": 4, "num_channels": 3, "images_per_batch": 4, "cache_dir": str(folder / "cache")}
    corpus = make_images(folder / "images") if not (folder / "images").exists() else folder / "images"
    return ImageData(str(corpus), **(options | settings))  # type: ignore[arg-type]


def prepared(data: ImageData) -> ImageData:
    data.prepare_data()
    data.setup("fit")
    return data


def test_an_epoch_has_every_image_once(tmp_path: Path) -> None:
    data = prepared(make_data(tmp_path))
    assert data.epochs.steps == 3
    batches = list(data.train_dataloader())
    assert [len(batch.label_B) for batch in batches] == [batch.step_target_tokens for batch in batches]
    assert sorted(torch.cat([batch.label_B for batch in batches]).tolist()) == [0] * 5 + [1] * 5
    for batch in batches:
        assert batch.image_BCHW.shape[1:] == (3, 4, 4)
        is_red = batch.image_BCHW[:, 0].float().mean(dim=(1, 2)) > 200
        assert torch.equal(is_red.long(), batch.label_B)


def test_two_devices_share_the_steps_of_one(tmp_path: Path) -> None:
    data = prepared(make_data(tmp_path))
    for accumulation, world_size in ((1, 2), (2, 2), (3, 1), (5, 1)):
        streams = [
            TrainingStream(
                data.plan,
                data.assembler(),
                epochs=data.epochs,
                accumulation=accumulation,
                rank=rank,
                world_size=world_size,
            )
            for rank in range(world_size)
        ]
        for step in range(5):
            parts = [stream.batch(step, part) for stream in streams for part in range(accumulation)]
            labels = torch.cat([part.label_B for part in parts])
            assert {part.step_target_tokens for part in parts} == {int((labels != NO_LABEL).sum())}
            rows = data.plan.step_rows(step)
            assert sorted(labels[labels != NO_LABEL].tolist()) == sorted(data.train.labels[rows].tolist())
            assert sum(part.num_target_tokens for part in parts) == len(rows)


def test_large_steps_are_accumulated(tmp_path: Path) -> None:
    data = prepared(make_data(tmp_path, max_images_per_device=3))
    batches = list(data.train_dataloader())
    assert max(len(batch.label_B) for batch in batches) <= 3
    assert [(batch.step, batch.micro_batch) for batch in batches] == [
        (step, part) for step in range(3) for part in (0, 1)
    ]
    assert [len(batch.label_B) for batch in data.val_dataloader()] == [3, 3]


def test_validation_and_test_have_their_images_in_order(tmp_path: Path) -> None:
    data = prepared(make_data(tmp_path))
    [batch] = data.val_dataloader()
    assert batch.label_B.tolist() == [0, 0, 0, 1, 1, 1]
    assert batch.step_target_tokens == 0
    [batch] = data.test_dataloader()
    assert batch.label_B.tolist() == [0, 0, 1, 1]


def test_training_images_are_held_out_evenly(tmp_path: Path) -> None:
    data = prepared(make_data(tmp_path, valid_images=4))
    assert (len(data.train), len(data.valid)) == (6, 4)
    assert not set(data.train.names) & set(data.valid.names)
    assert data.valid.labels.tolist() == [0, 0, 1, 1]
    with pytest.raises(UserError, match="valid_images is 10"):
        make_data(tmp_path, valid_images=10).prepare_data()


def test_prepared_images_are_found_again(tmp_path: Path) -> None:
    first = prepared(make_data(tmp_path))
    files = {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").rglob("*.npy")}
    again = prepared(make_data(tmp_path))
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").rglob("*.npy")} == files
    assert again.fingerprint == first.fingerprint
    assert prepared(make_data(tmp_path, seed=2)).fingerprint != first.fingerprint
    assert prepared(make_data(tmp_path, image_size=5)).fingerprint != first.fingerprint
    pixels, labels = first.pixels("train")
    assert pixels.shape == (10, 3, 4, 4)
    assert np.array_equal(labels, first.train.labels)


def test_a_broken_image_is_named(tmp_path: Path) -> None:
    data = make_data(tmp_path)
    (tmp_path / "images" / "train" / "red" / "3.png").write_bytes(b"broken")
    with pytest.raises(UserError, match=r"red.3\.png"):
        data.prepare_data()


def test_a_class_that_training_lacks_is_named(tmp_path: Path) -> None:
    data = make_data(tmp_path)
    (tmp_path / "images" / "valid" / "blue").mkdir()
    Image.new("RGB", (3, 3)).save(tmp_path / "images" / "valid" / "blue" / "a.png")
    with pytest.raises(UserError, match="class blue"):
        data.prepare_data()


def test_a_class_that_validation_lacks_keeps_the_numbers_of_the_others(tmp_path: Path) -> None:
    data = make_data(tmp_path)
    for path in (tmp_path / "images" / "valid" / "green").iterdir():
        path.unlink()
    (tmp_path / "images" / "valid" / "green").rmdir()
    data.prepare_data()
    assert data.valid.labels.tolist() == [1, 1, 1]


def test_no_images_to_validate_with(tmp_path: Path) -> None:
    data = make_data(tmp_path)
    (tmp_path / "images" / "valid").rename(tmp_path / "images" / "other")
    with pytest.raises(UserError, match="valid_images"):
        data.prepare_data()


@pytest.mark.parametrize(
    ("name", "value"),
    [("image_size", 0), ("num_channels", 2), ("images_per_batch", 0), ("max_images_per_device", 0)],
)
def test_impossible_settings_are_named(tmp_path: Path, name: str, value: int) -> None:
    with pytest.raises(UserError, match=f"{name} is {value}"):
        make_data(tmp_path, **{name: value})
