"""A Marian model of `transformers` (`model_type` marian), such as those of OPUS-MT, as a trained model of ours.

Ours begins with BOS, which has the embedding of Marian's first token. If this is its padding, ours has a padding of its
own besides, which the bias of the output keeps from having a probability.
"""

import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lit_transformer.batch import BOS_ID, PAD_ID
from lit_transformer.checkpoints.folder import read_json
from lit_transformer.checkpoints.trained_model import TrainedModel, empty_transformer
from lit_transformer.errors import UserError
from lit_transformer.model.config import TransformerConfig
from lit_transformer.model.positions import sinusoids
from lit_transformer.notes import print_note
from lit_transformer.pretrained.config import ACTIVATIONS, ForeignConfig
from lit_transformer.pretrained.marian import OUTPUT_BIAS, TABLE_FILES, TOKENIZER_FILE, table, to_halves
from lit_transformer.pretrained.marian_search import Generation
from lit_transformer.pretrained.marian_vocabularies import Special, Table, read_ids, read_table, read_vocabularies
from lit_transformer.pretrained.weights import ForeignWeights, Recipe

NO_PROBABILITY = -100.0
"""The logit of a token that Marian does not have. It is finite, because smoothed labels average the logits."""
ONLY_SOURCE = "<source>"
"""A token that no text has. It tells two vocabularies of the same tokens apart if each has an embedding."""
_LANGUAGES = re.compile(r"opus-mt-(?:tc-(?:base|big|bible)-)?(\w+)-(\w+)", re.IGNORECASE)


def load_marian(folder: Path, config: ForeignConfig) -> TrainedModel:
    """Read a Marian model with its vocabularies and the settings of its search.

    Raises:
        UserError: If a file is missing, damaged, or has what this project does not.
    """
    weights = ForeignWeights(folder)
    architecture = read_config(config, num_weights=len(weights))
    is_shared = config.flag("share_encoder_decoder_embeddings", True)
    source, target = read_tables(folder, config, is_shared=is_shared)
    vocabularies = read_vocabularies(folder, source, target)
    generation = Generation.read(folder, config, target)
    transformer = empty_transformer(
        asdict(architecture), vocabularies=vocabularies, num_weights=len(weights), path=folder
    )
    copies = ["lm_head.weight"] + [f"model.{side}.embed_tokens.weight" for side in ("encoder", "decoder")] * is_shared
    weights.check_equal("model.shared.weight" if is_shared else "model.decoder.embed_tokens.weight", copies)
    check_positions(weights, architecture)
    recipes = table(architecture, is_shared=is_shared)
    for name, tokens in {"source_embedding.weight": source, "embedding.weight": target, OUTPUT_BIAS: target}.items():
        if name in recipes:
            recipes[name] = _chosen(recipes[name], tokens)
    weights.load_into(transformer, recipes, ignored=["model.*coder.embed_positions.weight"])
    without = [PAD_ID] * (target.their_ids[PAD_ID] is None) + [PAD_ID, BOS_ID] * generation.renormalizes
    assert transformer.output.bias is not None
    transformer.output.bias[without] = NO_PROBABILITY
    return TrainedModel(transformer, vocabularies, *find_languages(folder), 0, folder, generation.search)


def read_config(config: ForeignConfig, *, num_weights: int) -> TransformerConfig:
    """Their settings as ours."""
    config.only(
        tie_word_embeddings=True,
        normalize_before=False,
        normalize_embedding=False,
        add_final_layer_norm=False,
        static_position_embeddings=True,
        is_decoder=False,
        encoder_layerdrop=0.0,
        decoder_layerdrop=0.0,
        attention_dropout=0.0,
        activation_dropout=0.0,
    )
    fields: dict[str, Any] = {
        "d_model": config.integer("d_model", 1024),
        "d_ff": config.equal("encoder_ffn_dim", "decoder_ffn_dim", 4096),
        "num_heads": config.equal("encoder_attention_heads", "decoder_attention_heads", 16),
        "num_layers": config.equal("encoder_layers", "decoder_layers", 12),
        "dropout": config.number("dropout", 0.1),
        "activation": config.choice("activation_function", ACTIVATIONS, "gelu"),
        "attention_bias": True,
        "scale_embedding": config.flag("scale_embedding", False),
        "output_bias": True,
    }
    return config.architecture(fields, num_weights=num_weights)


def read_tables(folder: Path, config: ForeignConfig, *, is_shared: bool) -> tuple[Table, Table]:
    """The tokens of source and target, twice the same object if they share them."""
    source_size = config.integer("vocab_size", 58101)
    size = config.integer("decoder_vocab_size", source_size) if config.has("decoder_vocab_size") else source_size
    pad, eos = config.integer("pad_token_id", 58100), config.integer("eos_token_id", 0)
    start = config.integer("decoder_start_token_id", 58100)
    source_file, target_file = (folder / name for name in TABLE_FILES)
    if is_shared:
        if size != source_size:
            raise config.refused("decoder_vocab_size", size, f"both sides share vocab_size, {source_size}")
        tokens = read_table(source_file, size, Special(pad, _id(source_file, "<unk>"), start, eos))
        return tokens, tokens
    ids = (_id(source_file, name) for name in ("<pad>", "<unk>", "</s>"))
    source_pad, source_unk, source_eos = ids
    source_start = read_ids(source_file).get("<s>")  # models that we exported have it
    source = read_table(source_file, source_size, Special(source_pad, source_unk, source_start, source_eos))
    target = read_table(target_file, size, Special(pad, _id(target_file, "<unk>"), start, eos))
    if source.names == target.names:  # one embedding would be enough for both (`Vocabularies.have_same_tokens`)
        source = Table([*source.names, ONLY_SOURCE], [*source.their_ids, None])
    return source, target


def _id(path: Path, name: str) -> int:
    if name not in (ids := read_ids(path)):
        raise UserError(f"{path} lacks {name}: copy the folder again")
    return ids[name]


def _chosen(recipe: Recipe, tokens: Table) -> Recipe:
    """A recipe whose rows are those of our ids. A token that Marian does not have is zero."""
    ids = tokens.their_ids

    def make(tensors: list[Tensor]) -> Tensor:
        rows = recipe.make(tensors)[[each or 0 for each in ids]]
        rows[[number for number, each in enumerate(ids) if each is None]] = 0.0
        return rows

    return Recipe(recipe.names, make)


def check_positions(weights: ForeignWeights, config: TransformerConfig) -> None:
    """Raise UserError if a table of positions is there and has other numbers than sinusoids."""
    for side in ("encoder", "decoder"):
        table = weights.tensors.get(name := f"model.{side}.embed_positions.weight")
        if table is None:
            continue
        expected = to_halves(sinusoids(torch.arange(len(table)), config.d_model), 1)
        if table.shape != expected.shape or not torch.allclose(table.float(), expected, atol=1e-3):
            raise UserError(f"{weights.folder} has no sinusoids in {name}: take another model")


def find_languages(folder: Path) -> tuple[str, str]:
    """The languages of a model, from `tokenizer_config.json` or from its name. Empty if neither says them."""
    file = folder / TOKENIZER_FILE
    said = read_json(file) if file.exists() else {}
    found = said.get("source_lang"), said.get("target_lang")
    if all(isinstance(language, str) and language for language in found):
        return str(found[0]), str(found[1])
    # In the cache of the Hub, the name is a folder above.
    if match := next(filter(None, map(_LANGUAGES.search, reversed(folder.resolve().parts))), None):
        return match.group(1), match.group(2)
    print_note(f"{folder} does not name its languages: give source and target where they are needed")
    return "", ""
