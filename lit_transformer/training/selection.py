"""What the best checkpoint is chosen by: validation BLEU in tokens of the target language, or the loss."""

import math

from lit_transformer.errors import UserError
from lit_transformer.evaluation.bleu import Tokenization, check_tokenization, tokenization_of
from lit_transformer.runs.ranks import note


def selection_score(*, bleu: float, loss: float) -> float:
    """The value that is highest for the best checkpoint, `val/selection`.

    From 1 up it is BLEU. A lower BLEU is noise: then it is exp(-loss), which is below 1, so that the loss decides.

    Args:
        bleu: Validation BLEU, 0 to 100.
        loss: Validation loss per target token, in nats.
    """
    return bleu if bleu >= 1.0 else math.exp(-loss)


def available_tokenization(language: str) -> Tokenization:
    """The tokenizer that `test` uses for a target language, or `char` with a note if it cannot be loaded here."""
    tokenize = tokenization_of(language)
    try:
        return check_tokenization(tokenize)
    except UserError as error:
        note(f"validation BLEU is counted in characters: {error}")
        return "char"
