"""Tokenizers of `transformers`, trained on a few sentences."""

import json
from typing import Any

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import BertTokenizer, GPT2Tokenizer

LEARNED = [
    "The cat sleeps in the garden.",
    "Die Katze schläft.",
    "Кошка спит.",
    "猫が寝ている。",
    "cats, and dogs; 1,234!",
]


def byte_level() -> Any:
    """GPT-2's kind of tokenizer."""
    learned = Tokenizer(models.BPE())
    learned.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=307,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=["<|endoftext|>"],
        show_progress=False,
    )
    learned.train_from_iterator(LEARNED, trainer)
    model = json.loads(learned.to_str())["model"]
    merges: Any = [tuple(merge) for merge in model["merges"]]
    return GPT2Tokenizer(model["vocab"], merges)


def word_piece(**settings: Any) -> Any:
    """BERT's kind of tokenizer."""
    learned = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    learned.normalizer = normalizers.BertNormalizer()
    learned.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    trainer = trainers.WordPieceTrainer(vocab_size=97, special_tokens=special, show_progress=False)
    learned.train_from_iterator(LEARNED, trainer)
    return BertTokenizer(learned.get_vocab(), **settings)
