"""Models of `transformers` with random parameters, and the same parameters in our models."""

from typing import Any

import torch
from torch import Tensor, nn

TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-10}
"""Our outputs equal those of the oracle up to this."""


def randomize(oracle: Any, dtype: torch.dtype) -> None:
    """Give every number of a model another value, so that each of them matters: also biases, norms and buffers."""
    oracle.to(dtype).eval().set_attn_implementation("eager")
    with torch.no_grad():
        for tensor in (*oracle.parameters(), *oracle.buffers()):
            if tensor.is_floating_point():
                tensor.copy_(0.2 * torch.randn(tensor.shape) + tensor.mean())


def load(model: nn.Module, weights: dict[str, Tensor]) -> None:
    """Every parameter gets its value."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(weights.pop(name))
    assert not weights


def gpt_weights(oracle: Any) -> dict[str, Tensor]:
    theirs = oracle.transformer.state_dict()
    ours = {}
    names = {"wte": "embedding", "wpe": "stack.positions.table", "ln_f": "stack.norm"}
    for name, tensor in theirs.items():
        part, _, rest = name.partition(".")
        if part in names:
            ours[f"{names[part]}.{rest}"] = tensor
        else:
            layer, _, rest = rest.partition(".")
            for old, new in (
                ("ln_1", "self_attention_norm.norm"),
                ("ln_2", "feed_forward_norm.norm"),
                ("attn.c_attn", "self_attention.query_key_value"),
                ("attn.c_proj", "self_attention.output"),
                ("mlp.c_fc", "feed_forward.inner"),
                ("mlp.c_proj", "feed_forward.outer"),
            ):
                rest = rest.replace(old, new)
            ours[f"stack.layers.{layer}.{rest}"] = tensor.t()
    return ours


def bert_weights(oracle: Any) -> dict[str, Tensor]:
    theirs = oracle.state_dict()
    ours = {}
    for name, tensor in theirs.items():
        ours_name = name
        for old, new in (
            ("bert.embeddings.word_embeddings", "embedding"),
            ("bert.embeddings.position_embeddings", "stack.positions.table"),
            ("bert.embeddings.token_type_embeddings", "segment_embedding"),
            ("bert.embeddings.LayerNorm", "stack.embedding_norm"),
            ("bert.encoder.layer", "stack.layers"),
            ("attention.output.dense", "self_attention.output"),
            ("attention.output.LayerNorm", "self_attention_norm.norm"),
            ("intermediate.dense", "feed_forward.inner"),
            ("output.dense", "feed_forward.outer"),
            ("output.LayerNorm", "feed_forward_norm.norm"),
            ("cls.predictions.transform.dense", "head"),
            ("cls.predictions.transform.LayerNorm", "head_norm"),
            ("cls.predictions.bias", "output.bias"),
        ):
            ours_name = ours_name.replace(old, new)
        if "attention.self" in name:
            kind = name.rpartition(".")[2]
            if ".query." in name:
                parts = [theirs[name.replace("query", part)] for part in ("query", "key", "value")]
                layer = name.split(".")[3]
                ours[f"stack.layers.{layer}.self_attention.query_key_value.{kind}"] = torch.cat(parts)
        elif not name.startswith("cls.predictions.decoder"):
            ours[ours_name] = tensor
    return ours


def vit_weights(oracle: Any) -> dict[str, Tensor]:
    theirs = oracle.state_dict()
    ours = {
        "class_vector": theirs["vit.embeddings.cls_token"].flatten(),
        "stack.positions.table.weight": theirs["vit.embeddings.position_embeddings"][0],
    }
    for kind in ("weight", "bias"):
        for name, other in (
            ("patches", "vit.embeddings.patch_embeddings.projection"),
            ("stack.norm", "vit.layernorm"),
            ("head", "classifier"),
        ):
            ours[f"{name}.{kind}"] = theirs[f"{other}.{kind}"]
        for layer in range(oracle.config.num_hidden_layers):
            other, name = f"vit.layers.{layer}", f"stack.layers.{layer}"
            ours[f"{name}.self_attention.query_key_value.{kind}"] = torch.cat(
                [theirs[f"{other}.attention.{part}_proj.{kind}"] for part in "qkv"]
            )
            ours[f"{name}.self_attention.output.{kind}"] = theirs[f"{other}.attention.o_proj.{kind}"]
            ours[f"{name}.self_attention_norm.norm.{kind}"] = theirs[f"{other}.layernorm_before.{kind}"]
            ours[f"{name}.feed_forward_norm.norm.{kind}"] = theirs[f"{other}.layernorm_after.{kind}"]
            ours[f"{name}.feed_forward.inner.{kind}"] = theirs[f"{other}.mlp.fc1.{kind}"]
            ours[f"{name}.feed_forward.outer.{kind}"] = theirs[f"{other}.mlp.fc2.{kind}"]
    return ours
