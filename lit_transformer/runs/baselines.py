"""The test figure of a trained model, beside that of a much simpler model, on the same test data.

A recipe names one of these callbacks. They print one line when training ends.

Legend: B batch, C channels, H height, W width.
"""

import math
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

import lightning as L
import torch
from lightning.fabric.utilities import move_data_to_device

from lit_transformer.errors import UserError
from lit_transformer.evaluation.kneser_ney import KneserNey
from lit_transformer.evaluation.trigram import Trigram
from lit_transformer.notes import print_note


class KneserNeyBaseline(L.Callback):
    """Prints the test perplexity of a language model, and that of a 5-gram Kneser-Ney model.

    Both have the same vocabulary and predict the same tokens. The Kneser-Ney model counts the training text. A word's
    perplexity does not depend on the vocabulary. The end of a line counts as a word.
    """

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        data: Any = trainer.datamodule  # type: ignore[attr-defined] # set, but not declared
        module: Any = pl_module
        if not _has_test_set(trainer, data):
            return
        nll, num_tokens = 0.0, 0
        for batch in _test_batches(trainer, data, module):
            nll += float(module.loss_sums(batch).nll)
            num_tokens += batch.num_target_tokens
        if trainer.is_global_zero:
            counted = KneserNey(data.training_sentences, vocab_size=module.vocab_size)
            log_probabilities = counted.log_probabilities(data.test_sentences)
            assert len(log_probabilities) == num_tokens, "both predict the same tokens"
            theirs, num_words = -float(log_probabilities.sum()), data.num_test_words
            perplexities = [math.exp(each / number) for number in (num_tokens, num_words) for each in (nll, theirs)]
            print(
                "test perplexity per token {:.2f}, {:.2f} of a 5-gram Kneser-Ney model; per word {:.1f}, {:.1f}".format(
                    *perplexities
                ),
                f"({num_tokens:,} tokens, {num_words:,} words)",
                flush=True,
            )


class TrigramBaseline(L.Callback):
    """Prints the share of hidden test tokens that a model restores, and that of a trigram that sees both neighbors.

    Both restore the same tokens. If the model has a decoder, both know the tokens before.
    """

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        data: Any = trainer.datamodule  # type: ignore[attr-defined] # set, but not declared
        module: Any = pl_module
        if not _has_test_set(trainer, data):
            return
        right = num_hidden = 0
        for batch in _test_batches(trainer, data, module):
            are_restored = module.are_restored(batch)
            right += int(are_restored.sum())
            num_hidden += len(are_restored)
        if trainer.is_global_zero:
            trigram = Trigram(data.training_sentences)
            theirs = num_guesses = 0
            for row, example in zip(data.test_rows, data.test_examples, strict=True):
                hidden = example.hidden
                guesses = trigram.fill(row.tolist(), hidden.tolist(), left_is_known=module.has_decoder)
                theirs += sum(guess == token for guess, token in zip(guesses, row[hidden].tolist(), strict=True))
                num_guesses += len(guesses)
            assert num_guesses == num_hidden, "both restore the same tokens"
            print(
                f"test accuracy {right / num_hidden:.1%} of the hidden tokens, {theirs / num_hidden:.1%} by a trigram "
                f"that sees both neighbors ({num_hidden:,} tokens)",
                flush=True,
            )


class LogisticRegressionBaseline(L.Callback):
    """Prints the share of the test images that a model classifies correctly, and that of logistic regression.

    Logistic regression sees the pixels of the training images. It needs scikit-learn.
    """

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        if find_spec("sklearn") is None:
            raise UserError(
                "LogisticRegressionBaseline needs scikit-learn, which is not installed: leave the callback out, or "
                'pip install "lit-transformer[images]"'
            )

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        data: Any = trainer.datamodule  # type: ignore[attr-defined] # set, but not declared
        try:
            pixels, labels = data.pixels("test")
        except UserError as error:
            if trainer.is_global_zero:
                print_note(f"there is no test figure: {error}")
            return
        right = 0
        for batch in _test_batches(trainer, data, pl_module):
            right += int((pl_module(batch.image_BCHW).argmax(dim=-1) == batch.label_B).sum())
        if trainer.is_global_zero:
            # Here, because scikit-learn is an extra.
            from sklearn.linear_model import LogisticRegression

            seen, classes = data.pixels("train")
            regression = LogisticRegression(max_iter=10_000).fit(seen.reshape(len(seen), -1) / 255, classes)
            theirs = regression.score(pixels.reshape(len(pixels), -1) / 255, labels)
            print(
                f"test accuracy {right / len(labels):.1%}, {theirs:.1%} by logistic regression "
                f"({len(labels):,} images)",
                flush=True,
            )


def _has_test_set(trainer: L.Trainer, data: Any) -> bool:
    """Whether the corpus has a split `test`. A note says if it has none."""
    if data.splits.test is None and trainer.is_global_zero:
        print_note(f"corpus {data.corpus} has no split test, so there is no test figure")
    return data.splits.test is not None


def _test_batches(trainer: L.Trainer, data: Any, module: L.LightningModule) -> Iterator[Any]:
    """Yield all test batches, on each rank the same, while the module evaluates."""
    module.eval()
    with torch.inference_mode(), trainer.precision_plugin.forward_context():
        for batch in data.test_batches:
            yield move_data_to_device(batch, trainer.strategy.root_device)
    module.train()
