"""The folder of a Marian model in Hugging Face's layout, written from a model of ours.

| file | content |
|---|---|
| `config.json`, `model.safetensors` | settings and weights, for `MarianMTModel` |
| `generation_config.json` | settings of its search |
| `vocab.json` | ids of tokens, the source's if there are two vocabularies |
| `target_vocab.json` | the target's, if there are two |
| `source.spm`, `target.spm`, `tokenizer_config.json` | for `MarianTokenizer` |
| `README.md` | model card for people |

Ids stay as they are. The SentencePiece models have one difference: what `Tokenizer.encode` replaces before them is part
of their normalization, because `MarianTokenizer` replaces nothing.
"""

import json
from pathlib import Path
from typing import Any

import sentencepiece as spm

from lit_transformer.batch import BOS_ID, EOS_ID, PAD_ID, UNK_ID
from lit_transformer.checkpoints.folder import (
    CARD_FILE,
    CONFIG_FILE,
    WEIGHTS_FILE,
    json_bytes,
    weights_bytes,
    write_files,
)
from lit_transformer.checkpoints.trained_model import TrainedModel
from lit_transformer.data.tokenizer import Tokenizer
from lit_transformer.errors import UserError
from lit_transformer.model.config import TransformerConfig
from lit_transformer.model.transformer import Transformer
from lit_transformer.pretrained.config import ACTIVATIONS
from lit_transformer.pretrained.marian import (
    LANGUAGE_CODE,
    SEARCH_FILE,
    SENTENCEPIECE_FILES,
    TABLE_FILES,
    TOKENIZER_FILE,
    to_marian,
)
from lit_transformer.pretrained.marian_search import generation_config, search_of_generate
from lit_transformer.search_settings import SearchSettings

MAX_POSITIONS = 1024
"""Rows of Marian's table of sinusoids. It refuses longer sequences."""
SIDES = ("encoder", "decoder")
_PAPERS_ONLY = ("norm", "positions", "norm_type", "norm_epsilon", "embedding_norm", "tied_output", "window")
"""Settings that Marian has with the paper's value only."""


def check_expressible(config: TransformerConfig) -> None:
    """Raise UserError if Marian has no such architecture."""
    papers, head_size = TransformerConfig(), config.d_model / config.num_heads
    choices: dict[str, tuple[Any, ...]] = {name: (getattr(papers, name),) for name in _PAPERS_ONLY}
    values = {name: getattr(config, name) for name in choices}
    choices |= {"activation": tuple(ACTIVATIONS.values()), "d_k": (head_size,), "d_v": (head_size,)}
    values |= {"activation": config.activation, "d_k": config.key_size, "d_v": config.value_size}
    for name, value in values.items():
        if value not in choices[name]:
            allowed = " or ".join(str(choice).removesuffix(".0") for choice in dict.fromkeys(choices[name]))
            raise UserError(
                f"{name} is {value!r}, and Marian's is always {allowed}: share the model as a model folder instead, or "
                "train one with Marian's setting"
            )


def marian_config(transformer: Transformer) -> dict[str, Any]:
    """The settings of `transformers.MarianConfig` for a model of ours.

    Raises:
        UserError: If Marian has no such architecture.
    """
    config = transformer.config
    check_expressible(config)
    return {
        "vocab_size": transformer.source_vocab_size or transformer.vocab_size,
        "decoder_vocab_size": transformer.vocab_size,
        "share_encoder_decoder_embeddings": transformer.source_vocab_size is None,
        "d_model": config.d_model,
        **{f"{side}_layers": config.num_layers for side in SIDES},
        **{f"{side}_attention_heads": config.num_heads for side in SIDES},
        **{f"{side}_ffn_dim": config.d_ff for side in SIDES},
        "activation_function": next(theirs for theirs, ours in ACTIVATIONS.items() if ours == config.activation),
        "dropout": config.dropout,
        "scale_embedding": config.scale_embedding,
        "max_position_embeddings": MAX_POSITIONS,
        "pad_token_id": PAD_ID,
        "bos_token_id": BOS_ID,
        "eos_token_id": EOS_ID,
        "decoder_start_token_id": BOS_ID,
        "forced_eos_token_id": None,
    }


def write_marian_folder(folder: Path, model: TrainedModel) -> None:
    """Write a translation model as a Marian model into an empty folder (`files.new_folder`).

    Raises:
        UserError: If Marian has no such architecture, or its tokenizer cannot tell the tokens apart.
    """
    config = {"model_type": "marian", "architectures": ["MarianMTModel"], "dtype": "float32"}
    config |= marian_config(model.transformer)
    search = search_of_generate(model.search)
    source, target = model.vocabularies
    contents = {CONFIG_FILE: config, SEARCH_FILE: generation_config(search), TOKENIZER_FILE: _tokenizer_config(model)}
    vocabularies = [target] if model.vocabularies.have_same_tokens else [source, target]
    contents |= {name: _ids(vocabulary) for name, vocabulary in zip(TABLE_FILES, vocabularies, strict=False)}
    write_files(
        folder,
        {
            **{name: json_bytes(values) for name, values in contents.items()},
            WEIGHTS_FILE: weights_bytes(to_marian(model.transformer.state_dict(), model.transformer.config)),
            **{name: standalone_model(side) for name, side in zip(SENTENCEPIECE_FILES, (source, target), strict=True)},
            CARD_FILE: _card(model, search).encode(),
        },
    )


def standalone_model(tokenizer: Tokenizer) -> bytes:
    """A SentencePiece model that gives the tokens of `Tokenizer.encode` on its own."""
    spm.SetMinLogLevel(2)  # it would report the size of the rules
    try:
        rules = dict(spm.SentencePieceNormalizer(model_proto=tokenizer.model_bytes).Decompile())
    except RuntimeError:  # the model does not normalize
        rules = {}
    # The compiler of rules takes no zero character.
    rules |= {each: replacement for each, replacement in tokenizer.replaced.items() if each != "\0"}
    compiled = spm.SentencePieceNormalizer(norm_map=[*rules.items()]).serialized_normalizer_spec()
    # A protocol buffer is changed by what is appended. Field 3 of a model is its normalization. `compiled` has rules
    # only, so all else stays.
    changed = tokenizer.model_bytes + bytes([3 << 3 | 2]) + _varint(len(compiled)) + compiled
    return spm.SentencePieceProcessor(model_proto=changed).serialized_model_proto()


def _varint(number: int) -> bytes:
    """A number as protocol buffers have it: seven bits per byte, the lowest first. Bit 8 says that more follow."""
    return bytes([number & 127 | 128]) + _varint(number >> 7) if number > 127 else bytes([number])


def _ids(tokenizer: Tokenizer) -> dict[str, int]:
    """The ids of tokens by name. Language codes lose the space that begins a text."""
    ids = {}
    for token_id, name in enumerate(tokenizer.pieces()):
        code = name.removeprefix("\u2581")
        ids[code if LANGUAGE_CODE.fullmatch(code) else name] = token_id
    return ids


def _tokenizer_config(model: TrainedModel) -> dict[str, Any]:
    names = model.vocabularies.target.pieces()
    return {
        "tokenizer_class": "MarianTokenizer",
        "source_lang": model.source,
        "target_lang": model.target,
        "pad_token": names[PAD_ID],
        "unk_token": names[UNK_ID],
        "bos_token": names[BOS_ID],
        "eos_token": names[EOS_ID],
        "model_max_length": MAX_POSITIONS,
        "separate_vocabs": not model.vocabularies.have_same_tokens,
        # Special tokens in a text are text.
        "split_special_tokens": True,
        "clean_up_tokenization_spaces": False,
    }


def _card(model: TrainedModel, search: SearchSettings) -> str:
    num_parameters = sum(weight.numel() for weight in model.transformer.parameters())
    settings = ", ".join(f"{name}={value!r}" for name, value in search.changes.items())
    return f"""---
library_name: transformers
pipeline_tag: translation
language: {json.dumps([model.source, model.target])}
tags: [marian]
---

# Translation from {model.source} to {model.target}

The Transformer of [Attention Is All You Need](https://arxiv.org/abs/1706.03762) with {num_parameters:,} parameters,
trained for {model.step:,} steps with lit_transformer, and exported as a Marian model.

```py
from transformers import MarianMTModel, MarianTokenizer

tokenizer = MarianTokenizer.from_pretrained("FOLDER")
model = MarianMTModel.from_pretrained("FOLDER")
batch = tokenizer(["A sentence."], return_tensors="pt", padding=True)
print(tokenizer.batch_decode(model.generate(**batch), skip_special_tokens=True))
```

`generation_config.json` has the settings of the search. `SearchSettings({settings})` of lit_transformer finds the same
translations. A source has at most {MAX_POSITIONS:,} tokens. Text that begins with `>>` and contains `<<` begins with a
language code to `MarianTokenizer`.
"""
