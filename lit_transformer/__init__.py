"""The Transformer of "Attention Is All You Need" as a PyTorch Lightning project that trains, tests and translates.

The names below are imported when they are first used:

- `Transformer`, `TransformerConfig`: the encoder-decoder and its hyper-parameters (section 3)
- `LitTransformer`, `TranslationData`: its training and its data, for Lightning's `Trainer` (section 5)
- `LitGPT`, `LitBERT`, `LitBART`, `LitT5`, `TextData`: the same for models of one language
- `Batch`, `TextBatch`, `make_batch`: what loaders give, for loaders of one's own
- `Translator`, `SearchSettings`: translation with a trained model by beam search (section 6.1)
- `SamplingSettings`: tokens drawn at random, in place of a search
- `TextGenerator`: continuations of prompts by a trained GPT
- `load_checkpoint`: a trained model with its vocabularies, from a run, a checkpoint or a model folder
- `load_pretrained`: a trained model of any kind, also GPT-2, BERT, BART, T5 and ViT of `transformers`

Train on a built-in corpus and translate:

    import lightning as L
    from lit_transformer import LitTransformer, TransformerConfig, TranslationData, Translator

    model = LitTransformer(TransformerConfig(d_model=64, d_ff=128, num_heads=4, num_layers=2), vocab_size=1200)
    data = TranslationData("demo", tokens_per_batch=3000)
    L.Trainer(max_epochs=1).fit(model, data)
    Translator(model.transformer, data.vocabularies).translate("The cat sleeps.")

docs/library.md explains more. `python -m lit_transformer` lists the commands.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lit_transformer.batch import Batch, TextBatch, make_batch
    from lit_transformer.checkpoints.places import load_checkpoint
    from lit_transformer.data.datamodule import TranslationData
    from lit_transformer.data.text_data import TextData
    from lit_transformer.decoding.generator import TextGenerator
    from lit_transformer.decoding.translator import Translator
    from lit_transformer.model.config import TransformerConfig
    from lit_transformer.model.transformer import Transformer
    from lit_transformer.pretrained.places import load_pretrained
    from lit_transformer.search_settings import SamplingSettings, SearchSettings
    from lit_transformer.training.bert import LitBERT
    from lit_transformer.training.denoising import LitBART, LitT5
    from lit_transformer.training.gpt import LitGPT
    from lit_transformer.training.translation import LitTransformer

__version__ = "0.2.0"
__all__ = [
    "Batch",
    "LitBART",
    "LitBERT",
    "LitGPT",
    "LitT5",
    "LitTransformer",
    "SamplingSettings",
    "SearchSettings",
    "TextBatch",
    "TextData",
    "TextGenerator",
    "Transformer",
    "TransformerConfig",
    "TranslationData",
    "Translator",
    "load_checkpoint",
    "load_pretrained",
    "make_batch",
]

_MODULES = {
    "Batch": "lit_transformer.batch",
    "LitBART": "lit_transformer.training.denoising",
    "LitBERT": "lit_transformer.training.bert",
    "LitGPT": "lit_transformer.training.gpt",
    "LitT5": "lit_transformer.training.denoising",
    "LitTransformer": "lit_transformer.training.translation",
    "SamplingSettings": "lit_transformer.search_settings",
    "SearchSettings": "lit_transformer.search_settings",
    "TextBatch": "lit_transformer.batch",
    "TextGenerator": "lit_transformer.decoding.generator",
    "TextData": "lit_transformer.data.text_data",
    "Transformer": "lit_transformer.model.transformer",
    "TransformerConfig": "lit_transformer.model.config",
    "TranslationData": "lit_transformer.data.datamodule",
    "Translator": "lit_transformer.decoding.translator",
    "load_checkpoint": "lit_transformer.checkpoints.places",
    "load_pretrained": "lit_transformer.pretrained.places",
    "make_batch": "lit_transformer.batch",
}


if not TYPE_CHECKING:  # type checkers know the names above, and that there are no others

    def __getattr__(name: str) -> Any:
        # Imported on demand: importing torch takes seconds, and `--help` must not wait for it.
        if name in _MODULES:
            return getattr(import_module(_MODULES[name]), name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
