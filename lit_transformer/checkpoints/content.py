"""The content of a trained model as a number: what results depend on, and what copies of a model have in common.

It imports neither torch nor SentencePiece.
"""

from hashlib import blake2b
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from lit_transformer.data.tokenizer import Tokenizer
    from lit_transformer.model.transformer import Transformer


def content_digest(transformer: "Transformer", vocabularies: "Iterable[Tokenizer]") -> str:
    """Identify a model by its architecture, its weights and the given vocabularies, wherever it lies."""
    digest = blake2b(repr(transformer.config).encode(), digest_size=16)
    for vocabulary in vocabularies:
        digest.update(vocabulary.model_bytes)
    for name, weight in transformer.named_parameters():
        digest.update(name.encode())
        digest.update(weight.detach().cpu().numpy().data)
    return digest.hexdigest()
