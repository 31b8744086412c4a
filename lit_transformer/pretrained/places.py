"""Trained models from any place: those of this project and those of others.

A place is what `checkpoints.places` knows, or a folder or a name on the Hugging Face Hub with a model of another
program. `hf:` before the path of a folder on this machine is allowed.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from lit_transformer.checkpoints.descendants import TrainedDescendant, load_checkpoint_of_any_kind
from lit_transformer.checkpoints.folder import (
    CONFIG_FILE,
    MODEL_TYPE,
    WEIGHTS_FILE,
    download_files,
    is_model_folder,
    read_json,
)
from lit_transformer.checkpoints.format import does_not_translate
from lit_transformer.checkpoints.places import HUB_PREFIX, find_checkpoint, load_checkpoint
from lit_transformer.checkpoints.trained_model import TrainedModel
from lit_transformer.errors import UserError, innermost_reason
from lit_transformer.files import expanded, is_address
from lit_transformer.pretrained.bart import load_bart
from lit_transformer.pretrained.bert import load_bert
from lit_transformer.pretrained.config import ForeignConfig
from lit_transformer.pretrained.gpt2 import load_gpt2
from lit_transformer.pretrained.t5 import load_t5
from lit_transformer.pretrained.vit import load_vit
from lit_transformer.pretrained.weights import INDEX_FILE

Reader = Callable[[Path, ForeignConfig], TrainedModel | TrainedDescendant]


def _load_marian(folder: Path, config: ForeignConfig) -> TrainedModel:
    # Imported here, because few models need protobuf, which SentencePiece's description of its models imports.
    try:
        from lit_transformer.pretrained.marian_model import load_marian
    except Exception as error:  # protobuf raises one of its own if it is older than the description
        raise UserError(
            f"{folder} is a Marian model, and reading it needs a newer protobuf ({innermost_reason(error)}): "
            'pip install "lit-transformer[pretrained]"'
        ) from error

    return load_marian(folder, config)


READERS: dict[str, Reader] = {
    "gpt2": load_gpt2,
    "bert": load_bert,
    "bart": load_bart,
    "t5": load_t5,
    "vit": load_vit,
    "marian": _load_marian,
}
"""What reads a folder, by the `model_type` of its `config.json`."""
FILES = [
    *(CONFIG_FILE, "generation_config.json", WEIGHTS_FILE, INDEX_FILE, "model-*.safetensors"),
    *("tokenizer.json", "tokenizer_config.json", "vocab.json", "merges.txt", "vocab.txt", "*.model", "*.spm"),
]
"""What is downloaded of a model of another program."""


def load_pretrained(place: str | Path) -> TrainedModel | TrainedDescendant:
    """Read a trained model from any place, whoever wrote it.

    The `path` of a model of the Hub is its name without the owner, as for `load_checkpoint`.

    Raises:
        UserError: If there is no model, or it cannot be read.
    """
    name = str(place).removeprefix(HUB_PREFIX)
    if name != str(place) and not is_address(name) and expanded(name).is_dir():
        return _read(find_checkpoint(name))
    if name == str(place) or is_address(place):
        return _read(find_checkpoint(place))
    # The small file first, so that a model that cannot be read is refused before its weights are downloaded.
    folder = download_files(name, [CONFIG_FILE])
    if _is_ours(folder):
        return load_checkpoint(place)
    _reader(ForeignConfig(folder / CONFIG_FILE, read_json(folder / CONFIG_FILE)))
    return replace(_read(download_files(name, FILES, revision=folder.name)), path=Path(name.rpartition("/")[2]))


def load_translation_model(place: str | Path) -> TrainedModel:
    """Read a translation model from any place.

    Raises:
        UserError: As `load_pretrained`, or if the model does not translate.
    """
    trained = load_pretrained(place)
    if isinstance(trained, TrainedDescendant):
        raise does_not_translate(trained.path, trained.name)
    return trained


def _read(path: Path) -> TrainedModel | TrainedDescendant:
    if not is_model_folder(path):
        return load_checkpoint_of_any_kind(path)
    if _is_ours(path):
        return load_checkpoint(path)
    config = ForeignConfig(path / CONFIG_FILE, read_json(path / CONFIG_FILE))
    return _reader(config)(path, config)


def _is_ours(folder: Path) -> bool:
    return read_json(folder / CONFIG_FILE).get("model_type") == MODEL_TYPE


def _reader(config: ForeignConfig) -> Reader:
    if config.model_type not in READERS:
        known = ", ".join([MODEL_TYPE, *READERS])
        raise config.refused("model_type", config.model_type, f"models of these types can be read: {known}")
    return READERS[config.model_type]
