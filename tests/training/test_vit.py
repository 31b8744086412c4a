"""Training a ViT: its loss, its accuracy, and what a checkpoint keeps."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
import torch.nn.functional as F

from lit_transformer.batch import NO_LABEL, ImageBatch
from lit_transformer.checkpoints.descendants import load_descendant
from lit_transformer.data.image_data import ImageData, filler
from lit_transformer.data.pixels import normalized
from lit_transformer.errors import UserError
from lit_transformer.model.vit import VIT_BASE
from lit_transformer.runs.baselines import LogisticRegressionBaseline
from lit_transformer.training.vit import LitViT
from tests.helpers.images import make_images

CONFIG = replace(VIT_BASE, d_model=14, d_ff=19, num_heads=2, num_layers=2)


def make_module(**settings: Any) -> LitViT:
    sizes = {"image_size": 6, "patch_size": 3, "num_channels": 3, "num_classes": 2, "warmup_steps": 5}
    return LitViT(CONFIG, **(sizes | {"learning_rate": 1e-2} | settings))


def make_data(folder: Path, **settings: Any) -> ImageData:
    options: dict[str, Any] = {"images_per_batch": 4, "cache_dir": str(folder / "cache")}
    if not (folder / "images").exists():
        make_images(folder / "images")
    return ImageData(str(folder / "images"), **(options | settings))


def make_trainer(folder: Path, **settings: Any) -> L.Trainer:
    options: dict[str, Any] = {"accelerator": "cpu", "logger": False, "enable_progress_bar": False}
    quiet = {"enable_model_summary": False, "default_root_dir": folder, "log_every_n_steps": 1}
    return L.Trainer(**(options | quiet | settings))


def random_batch(num_images: int) -> ImageBatch:
    images = torch.randint(256, (num_images, 3, 6, 6), dtype=torch.uint8)
    return ImageBatch(images, torch.arange(num_images) % 2, num_images, num_images, 0, 0, 0)


def test_the_loss_is_the_sum_over_images() -> None:
    module, batch = make_module(label_smoothing=0.3).eval(), random_batch(5)
    logits = module.transformer(normalized(batch.image_BCHW))
    sums = module.loss_sums(batch)
    expected = F.cross_entropy(logits, batch.label_B, label_smoothing=0.3, reduction="sum")
    torch.testing.assert_close(sums.smoothed, expected)
    torch.testing.assert_close(sums.nll, F.cross_entropy(logits, batch.label_B, reduction="sum"))
    assert not sums.nll.requires_grad


def test_images_that_only_fill_a_batch_count_nothing() -> None:
    module = make_module().eval()
    empty = filler((3, 6, 6))
    assert empty.label_B.tolist() == [NO_LABEL]
    sums = module.loss_sums(empty)
    assert sums.smoothed.item() == sums.nll.item() == 0.0
    sums.smoothed.backward()
    assert all(weight.grad is None or not weight.grad.any() for weight in module.parameters())


def test_it_learns_colors_and_its_checkpoint_is_a_complete_model(tmp_path: Path) -> None:
    module, data = make_module(), make_data(tmp_path)
    trainer = make_trainer(tmp_path, max_epochs=10)
    trainer.fit(module, data)
    assert trainer.callback_metrics["val/accuracy"] == trainer.callback_metrics["val/selection"] == 1.0
    [scores] = trainer.test(module, data, verbose=False)
    assert scores["test/accuracy"] == 1.0
    assert scores["test/loss"] < 0.5
    trained = load_descendant(trainer.checkpoint_callback.best_model_path)  # type: ignore[union-attr]
    assert (trained.name, trained.classes, trained.step) == ("vit", ("green", "red"), 30)
    batch = random_batch(3)
    torch.testing.assert_close(trained.model(normalized(batch.image_BCHW)), module.eval()(batch.image_BCHW))
    again = LitViT.load_from_checkpoint(trainer.checkpoint_callback.best_model_path)  # type: ignore[union-attr]
    assert (again.config, again.image_size, again.label_smoothing) == (module.config, 6, 0.0)
    assert again.classes == ("green", "red")


@pytest.mark.parametrize("max_images", [512, 3])
def test_a_resumed_run_continues_exactly(tmp_path: Path, max_images: int) -> None:
    """In the middle of an epoch, with dropout."""
    weights = []
    for stop in (None, 4):
        L.seed_everything(1, verbose=False)
        module, data = make_module(), make_data(tmp_path, max_images_per_device=max_images)
        if stop is not None:
            trainer = make_trainer(tmp_path, max_steps=stop, enable_checkpointing=False)
            trainer.fit(module, data)
            trainer.save_checkpoint(tmp_path / "stopped.ckpt")
            module, data = make_module(), make_data(tmp_path, max_images_per_device=max_images)
        trainer = make_trainer(tmp_path, max_steps=8, enable_checkpointing=False)
        trainer.fit(module, data, ckpt_path=None if stop is None else tmp_path / "stopped.ckpt", weights_only=True)
        weights.append(module.transformer.state_dict())
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_two_devices_make_the_step_of_one(tmp_path: Path) -> None:
    data = make_data(tmp_path, image_size=6, num_channels=3)
    data.prepare_data()
    data.setup("fit")
    module = make_module().eval()
    rows, assembler = data.plan.step_rows(0), data.assembler()

    def gradient(parts: list[ImageBatch]) -> torch.Tensor:
        module.zero_grad()
        for part in parts:
            (module.loss_sums(part).smoothed / len(rows)).backward()
        return torch.cat([weight.grad.flatten() for weight in module.parameters() if weight.grad is not None])

    shares = [data.plan.micro_batch_rows(rows, data.plan.longer_sides(rows), 0, 1, rank, 2) for rank in range(2)]
    one, two = gradient([assembler.batch(rows)]), gradient([assembler.batch(share) for share in shares])
    torch.testing.assert_close(one, two)


def test_other_classes_are_one_error(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, max_steps=1, enable_checkpointing=False)
    with pytest.raises(UserError, match=r"2 classes.* num_classes 3"):
        trainer.fit(make_module(num_classes=3), make_data(tmp_path))
    module = make_module()
    trainer.fit(module, make_data(tmp_path))
    for split in ("train", "valid"):
        (tmp_path / "images" / split / "red").rename(tmp_path / "images" / split / "blue")
    with pytest.raises(UserError, match="green, red"):
        make_trainer(tmp_path, max_steps=1, enable_checkpointing=False).fit(module, make_data(tmp_path))


def test_the_test_figure_stands_beside_logistic_regression(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("sklearn")
    settings: dict[str, Any] = {"max_epochs": 10, "callbacks": [LogisticRegressionBaseline()]}
    make_trainer(tmp_path, **settings).fit(make_module(), make_data(tmp_path))
    assert capsys.readouterr().out.count("100.0%") == 2
    (tmp_path / "images" / "test").rename(tmp_path / "other")
    make_trainer(tmp_path, **settings | {"max_epochs": 1}).fit(make_module(), make_data(tmp_path))
    printed = capsys.readouterr()
    assert "logistic" not in printed.out
    assert "no folder test" in printed.err
