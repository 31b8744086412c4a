"""The model folder of CTranslate2: for its engine, and for programs that translate without lit_transformer.

| file | content |
|---|---|
| `model.bin`, `config.json` | weights and settings, written by the package ctranslate2 |
| `shared_vocabulary.json`, or `source_vocabulary.json` and `target_vocabulary.json` | tokens by id |
| `sentencepiece.model` | the SentencePiece model, the target's if there are two; not for the engine |
| `sentencepiece.source.model` | the source's, if there are two |

Padding, unknown tokens and BOS have a bias that keeps them from being chosen. In scores, the other tokens share the
whole probability.

Legend: V vocabulary.
"""

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lit_transformer.batch import BOS_ID, EOS_ID, NEVER_PREDICTED, UNK_ID
from lit_transformer.checkpoints.content import content_digest
from lit_transformer.checkpoints.folder import SOURCE_VOCABULARY_FILE, VOCABULARY_FILE
from lit_transformer.data import CACHE_DIR
from lit_transformer.data.vocabularies import Vocabularies
from lit_transformer.errors import UserError
from lit_transformer.files import expanded, new_folder
from lit_transformer.model.attention import CrossAttention, SelfAttention
from lit_transformer.model.config import TransformerConfig
from lit_transformer.model.layers import Layer
from lit_transformer.model.positions import LearnedPositions, Positions, sinusoids
from lit_transformer.model.stack import Stack
from lit_transformer.model.transformer import Transformer

FORMAT = 1
"""Part of the names of folders in the cache. It rises if the same model is written in another way."""
NUM_POSITIONS = 2048
"""Rows of the tables of positions, which ctranslate2 needs for fixed positions, too."""
BANNED_BIAS = -1e4
"""It fits into float16."""
_PAPERS_ONLY = (
    "activation",
    "feed_forward_bias",
    "attention_bias",
    "norm_type",
    "norm_epsilon",
    "embedding_norm",
    "scale_embedding",
    "tied_output",
    "output_bias",
    "window",
    "rotary_base",
    "rotary_scaling",
)
"""Settings that are written with the paper's value only."""


def check_installed() -> None:
    """Raise UserError unless the package is there."""
    if find_spec("ctranslate2") is None:
        raise UserError('the package ctranslate2 is not installed: pip install "lit-transformer[ctranslate2]"')


def check_expressible(config: TransformerConfig) -> None:
    """Raise UserError if CTranslate2 has no such architecture."""
    if config.positions in ("alibi", "relative"):
        raise UserError(
            f"positions is {config.positions!r}, which this project does not write for CTranslate2; translate with "
            "engine torch"
        )
    if config.key_size != config.value_size:
        raise UserError(
            f"d_k is {config.key_size} and d_v is {config.value_size}: CTranslate2 has one width for both; translate "
            "with engine torch"
        )
    default = TransformerConfig()
    for name in _PAPERS_ONLY:
        if (value := getattr(config, name)) != getattr(default, name):
            raise UserError(
                f"{name} is {value!r}, which this project does not write for CTranslate2; translate with engine torch"
            )


def is_usable(config: TransformerConfig) -> bool:
    """Whether the package is there and has such an architecture."""
    try:
        check_installed()
        check_expressible(config)
    except UserError:
        return False
    return True


def num_positions(config: TransformerConfig) -> int:
    """Tokens of the longest sequence that a converted model can read or write."""
    return min(config.longest or NUM_POSITIONS, NUM_POSITIONS)


def cached_folder(transformer: Transformer, cache_dir: Path | None = None) -> Path:
    """The folder of a model in the cache, in float32. It is written if it is not there. Its tokens are numbers.

    Raises:
        UserError: If CTranslate2 has no such architecture, or the cache cannot be written.
    """
    root = expanded(CACHE_DIR) if cache_dir is None else cache_dir
    folder = root / "ctranslate2" / f"{content_digest(transformer, ())}-{FORMAT}"
    sizes = (transformer.source_vocab_size or transformer.vocab_size, transformer.vocab_size)
    if not folder.exists():
        try:
            with new_folder(folder) as unfinished:
                names = [[str(token_id) for token_id in range(size)] for size in sizes]
                _write(unfinished, transformer, names, compute_type="float32")
        except UserError:
            if not folder.exists():  # another process may have written it meanwhile
                raise
    return folder


def write_ctranslate2_folder(
    folder: Path, transformer: Transformer, vocabularies: Vocabularies, *, compute_type: str
) -> None:
    """Convert a model and write it with its vocabularies into an empty folder (`files.new_folder`).

    Args:
        folder: The folder.
        transformer: The model.
        vocabularies: Its vocabularies.
        compute_type: The type of the weights, as ctranslate2 names it. It can compute in another one.

    Raises:
        UserError: If CTranslate2 has no such architecture or type, or cannot tell the tokens apart.
    """
    _write(folder, transformer, [vocabulary.pieces() for vocabulary in vocabularies], compute_type=compute_type)
    (folder / VOCABULARY_FILE).write_bytes(vocabularies.target.model_bytes)
    if not vocabularies.are_shared:
        (folder / SOURCE_VOCABULARY_FILE).write_bytes(vocabularies.source.model_bytes)


def _write(folder: Path, transformer: Transformer, tokens: Sequence[list[str]], *, compute_type: str) -> None:
    """Convert a model. `tokens` names the tokens of source and target by id."""
    check_installed()
    check_expressible(transformer.config)
    # It is an optional package, and it brings a second OpenMP.
    from ctranslate2.specs.model_spec import ACCEPTED_MODEL_TYPES

    if compute_type not in ACCEPTED_MODEL_TYPES:
        raise UserError(f"compute_type is {compute_type!r}: choose one of {', '.join(sorted(ACCEPTED_MODEL_TYPES))}")
    spec = _make_spec(transformer, *tokens)
    spec.validate()
    spec.optimize(quantization=compute_type)
    spec.save(str(folder))


def _make_spec(transformer: Transformer, source_tokens: list[str], target_tokens: list[str]) -> Any:
    """The model as CTranslate2's `TransformerSpec`."""
    from ctranslate2.specs import TransformerSpec
    from ctranslate2.specs.transformer_spec import TransformerDecoderSpec, TransformerEncoderSpec

    config = transformer.config
    options: dict[str, Any] = {"pre_norm": config.norm == "pre", "head_dim": config.key_size}
    if config.positions == "rotary":
        options |= {"rotary_dim": 0, "rotary_interleave": True}  # 0 means all dimensions
    encoder = TransformerEncoderSpec(config.num_layers, config.num_heads, **options)
    decoder = TransformerDecoderSpec(config.num_layers, config.num_heads, **options)
    target = transformer.embedding
    _set_embedding(
        encoder.embeddings[0], target if transformer.source_embedding is None else transformer.source_embedding
    )
    _set_embedding(decoder.embeddings, target)
    _set_stack(encoder, transformer.encoder, config)
    _set_stack(decoder, transformer.decoder, config)
    bias_V = np.zeros(transformer.vocab_size, dtype=np.float32)
    bias_V[list(NEVER_PREDICTED)] = BANNED_BIAS
    decoder.projection.weight, decoder.projection.bias = _numbers(target.weight), bias_V
    spec = TransformerSpec(encoder, decoder)
    spec.register_source_vocabulary(source_tokens)
    spec.register_target_vocabulary(target_tokens)
    # Both sides have the same names of these.
    spec.config.unk_token, spec.config.eos_token = target_tokens[UNK_ID], target_tokens[EOS_ID]
    spec.config.bos_token = spec.config.decoder_start_token = target_tokens[BOS_ID]
    spec.config.add_source_eos = True
    spec.config.layer_norm_epsilon = nn.LayerNorm(1).eps
    return spec


def _set_stack(spec: Any, stack: Stack, config: TransformerConfig) -> None:
    if config.norm == "pre":
        _set_norm(spec.layer_norm, stack.norm)
    if config.positions != "rotary":
        spec.position_encodings.encodings = _numbers(_position_table(stack.positions, config))
    for layer_spec, layer in zip(spec.layer, stack.layers, strict=True):
        _set_layer(layer_spec, layer, attends_to_source=stack.attends_to_source)


def _set_layer(spec: Any, layer: Layer, *, attends_to_source: bool) -> None:
    attention: SelfAttention = layer.self_attention
    _set_linears(spec.self_attention.linear, attention.query_key_value, attention.output)
    _set_norm(spec.self_attention.layer_norm, layer.self_attention_norm.norm)
    if attends_to_source:
        cross: CrossAttention = layer.cross_attention
        _set_linears(spec.attention.linear, cross.query, cross.key_value, cross.output)
        _set_norm(spec.attention.layer_norm, layer.cross_attention_norm.norm)
    _set_linears([spec.ffn.linear_0, spec.ffn.linear_1], layer.feed_forward.inner, layer.feed_forward.outer)
    _set_norm(spec.ffn.layer_norm, layer.feed_forward_norm.norm)


def _position_table(positions: Positions, config: TransformerConfig) -> Tensor:
    """What is added to the embedding at each position. CTranslate2's own sinusoids have other frequencies."""
    if isinstance(positions, LearnedPositions):
        return positions.table.weight
    if config.positions == "none":
        return torch.zeros(NUM_POSITIONS, config.d_model)
    return sinusoids(torch.arange(NUM_POSITIONS), config.d_model)


def _set_embedding(spec: Any, embedding: nn.Embedding) -> None:
    spec.weight, spec.multiply_by_sqrt_depth = _numbers(embedding.weight), True


def _set_linears(specs: list[Any], *linears: nn.Linear) -> None:
    for spec, linear in zip(specs, linears, strict=True):
        spec.weight = _numbers(linear.weight)
        if linear.bias is not None:
            spec.bias = _numbers(linear.bias)


def _set_norm(spec: Any, norm: nn.Module) -> None:
    assert isinstance(norm, nn.LayerNorm)
    spec.gamma, spec.beta = _numbers(norm.weight), _numbers(norm.bias)


def _numbers(weight: Tensor) -> np.ndarray:
    return weight.detach().float().cpu().numpy()
