"""Folders like those of OPUS-MT: a small Marian model of `transformers` that has learned to copy, and its tokenizer."""

import io
import json
import warnings
from pathlib import Path
from typing import Any

import sentencepiece as spm
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import MarianConfig, MarianMTModel, MarianTokenizer

from lit_transformer.data.demo.corpus import demo_pairs

EOS, UNK, MAX_LENGTH = 0, 1, 24
CODES = (">>deu<<", ">>nds<<")
TEXTS = [
    "Two dogs run, 3 cats sleep.",
    "Zwei Hunde laufen über die Straße!",
    ">>deu<< The child sees the old house.",
    "Ångström  and\u00a0ﬁne “quotes” … 12½",
    "日本 x",
]
"""Also with characters that no piece has, that normalization changes, and a language code."""


def sentences(side: int) -> list[str]:
    return [(pair.english, pair.german)[side] for pair in demo_pairs("valid")]


def write_tokenizer(folder: Path, *, is_shared: bool = True, have_same_tokens: bool = False) -> Any:
    """Two unigram models. The table lacks some pieces of each, and each lacks many of the table.

    Args:
        folder: Where to write.
        is_shared: Whether there is one table for both sides.
        have_same_tokens: Whether two tables are alike.
    """
    pieces: list[list[str]] = []
    for side, name in enumerate(("source.spm", "target.spm")):
        model = io.BytesIO()
        spm.SentencePieceTrainer.train(
            sentence_iterator=iter(sentences(side)),
            model_writer=model,
            model_type="unigram",
            vocab_size=(110, 130)[side],
            hard_vocab_limit=False,
            minloglevel=2,
        )
        (folder / name).write_bytes(model.getvalue())
        processor = spm.SentencePieceProcessor(model_proto=model.getvalue())
        names = processor.id_to_piece(list(range(3, processor.get_piece_size())))
        pieces.append([piece for number, piece in enumerate(names) if number % 11 != 5])
    union = sorted({*pieces[0], *pieces[1]})
    tables = [union] if is_shared else [union, union] if have_same_tokens else pieces
    for name, table in zip(("vocab.json", "target_vocab.json"), tables, strict=False):
        # OPUS-MT has padding last. With two tables, its number must be in both.
        first, last = (["</s>", "<unk>"], ["<pad>"]) if is_shared else (["</s>", "<unk>", "<pad>"], [])
        tokens = [*first, *table, *CODES, *last]
        (folder / name).write_text(json.dumps({token: number for number, token in enumerate(tokens)}))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it recommends sacremoses, which it does not need
        tokenizer = make_tokenizer(folder, is_shared=is_shared)
    tokenizer.save_pretrained(folder)
    return tokenizer


def make_tokenizer(folder: Path, *, is_shared: bool) -> Any:
    kind: Any = MarianTokenizer
    return kind(
        *(str(folder / name) for name in ("source.spm", "target.spm", "vocab.json")),
        **({} if is_shared else {"target_vocab_file": str(folder / "target_vocab.json"), "separate_vocabs": True}),
        source_lang="en",
        target_lang="de",
    )


def make_model(tokenizer: Any, *, num_steps: int = 160, **generation: Any) -> Any:
    """A model in float64 that copies with slips, so that its outputs end and vary. All its numbers matter."""
    size, pad = len(tokenizer.encoder), tokenizer.pad_token_id
    is_shared = not tokenizer.separate_vocabs
    torch.manual_seed(1)
    config: Any = MarianConfig(
        vocab_size=size,
        decoder_vocab_size=size if is_shared else len(tokenizer.target_encoder),
        share_encoder_decoder_embeddings=is_shared,
        d_model=24,
        encoder_layers=2,
        decoder_layers=2,
        encoder_attention_heads=3,
        decoder_attention_heads=3,
        encoder_ffn_dim=31,
        decoder_ffn_dim=31,
        activation_function="swish",
        dropout=0.0,
        scale_embedding=True,
        max_position_embeddings=64,
        pad_token_id=pad,
        eos_token_id=EOS,
        decoder_start_token_id=pad if is_shared else tokenizer.target_encoder["<pad>"],
        forced_eos_token_id=EOS,
    )
    if not is_shared:
        config.pad_token_id = config.decoder_start_token_id
    model: Any = MarianMTModel(config).double()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                scale = parameter.shape[-1] ** -0.5 if parameter.ndim > 1 else 0.05
                parameter.add_(scale * torch.randn_like(parameter))
        model.final_logits_bias.normal_()
    optimizer = torch.optim.Adam([each for each in model.parameters() if each.requires_grad], lr=6e-3)
    smaller = min(size, config.decoder_vocab_size)
    for _ in range(num_steps):
        source_BS, length_B1 = torch.randint(UNK + 1, smaller - 3, (48, 9)), torch.randint(1, 9, (48, 1))
        place_S = torch.arange(9)
        source_BS = source_BS.masked_fill(place_S == length_B1, EOS).masked_fill(place_S > length_B1, pad)
        slips_BS = (torch.rand(source_BS.shape) < 0.3) & (place_S < length_B1)
        slipped_BS = torch.randint(UNK, smaller - 3, source_BS.shape)
        slipped_BS[torch.rand(source_BS.shape) < 0.08] = UNK
        target_BS = torch.where(slips_BS, slipped_BS, source_BS)
        start_B1 = torch.full((48, 1), config.decoder_start_token_id)
        mask_BS = place_S <= length_B1
        logits = model(
            input_ids=source_BS, attention_mask=mask_BS, decoder_input_ids=torch.cat([start_B1, target_BS[:, :-1]], 1)
        ).logits
        optimizer.zero_grad()
        F.cross_entropy(logits[mask_BS], target_BS[mask_BS]).backward()
        optimizer.step()
    model.generation_config.update(
        **{
            "num_beams": 4,
            "max_length": MAX_LENGTH,
            "bad_words_ids": [[config.decoder_start_token_id]],
            "renormalize_logits": True,
            **generation,
        }
    )
    return model.eval()


def write_opus(
    folder: Path, *, is_shared: bool = True, have_same_tokens: bool = False, num_steps: int = 160, **generation: Any
) -> tuple[Any, Any]:
    """Write the whole folder, and return model and tokenizer."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = write_tokenizer(folder, is_shared=is_shared, have_same_tokens=have_same_tokens)
    model = make_model(tokenizer, num_steps=num_steps, **generation)
    model.save_pretrained(folder)
    return model, tokenizer


def their_ids(tokenizer: Any, texts: list[str], *, is_target: bool = False) -> list[list[int]]:
    sides = {"text_target": texts} if is_target else {"text": texts}
    return [ids[:-1] for ids in tokenizer(**sides)["input_ids"]]


def generate(model: Any, tokenizer: Any, texts: list[str], **options: Any) -> Tensor:
    batch = tokenizer(texts, return_tensors="pt", padding=True)
    return model.generate(**batch, **options)
