"""What TensorBoard shows of attention, against the attention of the checkpoints of the same steps."""

from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lit_transformer import Translator
from lit_transformer.analysis.entropy import head_entropy
from lit_transformer.analysis.figures import mean_map
from lit_transformer.errors import UserError
from lit_transformer.runs.attention_curves import LONGEST, AttentionCurves
from tests.helpers.attentions import pixels, same_picture
from tests.helpers.corpora import make_corpus
from tests.helpers.runs import events, fit

STEPS = (10, 20)


def test_pictures_and_entropies_are_those_of_the_checkpoints(tmp_path: Path) -> None:
    corpus = make_corpus(tmp_path / "corpus")
    texts = {
        language: (corpus / f"valid.{language}").read_text(encoding="utf-8").split("\n") for language in ["en", "de"]
    }
    # The second sentence is too long to be drawn.
    long = " ".join([texts["en"][1]] * LONGEST)
    (corpus / "valid.en").write_text("\n".join([texts["en"][0], long, *texts["en"][2:]]), encoding="utf-8")
    settings = {"trainer__max_steps": 20, "trainer__val_check_interval": 10, "checkpoints__every_n_train_steps": 10}
    run = fit(corpus, tmp_path / "runs", **settings, attention__sentences=3)
    written = events(run.folder)
    assert written.Tags()["images"] == ["val_attention/cross_1", "val_attention/cross_2"]
    assert sorted(written.Tags()["histograms"]) == [
        f"val_attention_entropy/{kind}" for kind in ("cross", "decoder", "encoder")
    ]
    for place, step in enumerate(STEPS):
        translator = Translator.load(run.checkpoint(step), device="cpu")
        attentions = translator.attentions([texts["en"][0], texts["en"][2]], [texts["de"][0], texts["de"][2]])
        for number, attention in enumerate(attentions, start=1):
            image = written.Images(f"val_attention/cross_{number}")[place]
            assert image.step == step
            shown = np.asarray(Image.open(BytesIO(image.encoded_image_string)))
            assert same_picture(shown, pixels(mean_map(attention, "cross")))
    entropies = np.concatenate([head_entropy(layer) for one in attentions for layer in one.encoder.values()])
    histogram = written.Histograms("val_attention_entropy/encoder")[-1]
    assert (histogram.step, histogram.histogram_value.num) == (STEPS[-1], len(entropies))
    assert histogram.histogram_value.sum == pytest.approx(entropies.sum(), rel=1e-4)
    assert histogram.histogram_value.max == pytest.approx(entropies.max(), rel=1e-4)


def test_it_can_be_switched_off(tmp_path: Path) -> None:
    run = fit(make_corpus(tmp_path / "corpus"), tmp_path / "runs", trainer__max_steps=2, trainer__val_check_interval=2)
    assert events(run.folder).Tags()["images"] == []
    with pytest.raises(UserError, match=r"sentences is -1"):
        AttentionCurves(sentences=-1)
