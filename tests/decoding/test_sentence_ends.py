"""Lost sentences: found if they are lost, and rarely said to be lost if they are not."""

import time
from pathlib import Path

import pytest

from lit_transformer.decoding.sentence_ends import fewest_sentences, lost_sentences

DATA = Path(__file__).parents[2].parent / "shared" / "data"


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("", 1),
        ("The cat sleeps.", 1),
        ("The house burns. The cat sleeps.", 2),
        ("Who? Me! He did not.", 3),
        ("He ran. ¿Quién? «No.»", 3),
        ("Das Haus brennt. Über uns steht der Mond.", 2),
        ("Привет. Как дела?", 2),
        ("你好。你好吗？很好！", 3),
        ("यह घर है। वह बिल्ली है।", 2),
        ("هل أنت بخير؟ نعم.", 2),
        # Not certain: abbreviations, numbers, quotations, ellipses.
        ("Mr. Smith met Prof. Sato at 5 p.m. Monday.", 1),
        ("This is e.g. Paris vs. London, on the 3. Oktober, by J. R. Müller.", 1),
        ("U.S. President on v1.5. He", 1),
        ("他说：“好。”然后走了。", 1),
        ('"No." said Tom.', 1),
        ("Well... Tom left.", 1),
    ],
)
def test_ends_that_are_certain(text: str, number: int) -> None:
    assert fewest_sentences(text) == number


@pytest.mark.parametrize(
    ("source", "translation", "is_lost"),
    [
        ("The house burns. The cat sleeps.", "Das Haus brennt.", True),
        ("The house burns. The cat sleeps.", "Das Haus brennt. Die Katze schläft.", False),
        ("The house burns. The cat sleeps.", "Das Haus brennt; die Katze schläft.", False),
        ("The house burns. The cat sleeps.", "Das Haus brennt: Die Katze schläft", False),
        ("The house burns. The cat sleeps.", "房子着火了。猫在睡觉。", False),
        ("The house burns. The cat sleeps.", "房子着火了。", True),
        ("The house burns. The cat sleeps.", "บ้านไฟไหม้ แมวนอนหลับ", False),
        ("The house burns. The cat sleeps.", "", False),
    ],
)
def test_a_translation_with_fewer(source: str, translation: str, is_lost: bool) -> None:
    assert lost_sentences(source, translation) == is_lost


@pytest.mark.skipif(not DATA.is_dir(), reason="the shared corpora are not here")
@pytest.mark.parametrize(("folder", "split"), [("newstest_en_de", "newstest2014"), ("tatoeba_en_de", "test")])
def test_human_translations(folder: str, split: str) -> None:
    """Translators join sentences now and then. If only the first of two lines is translated, that is found."""
    english, german = (
        (DATA / folder / f"{split}.{language}").read_text(encoding="utf-8").splitlines() for language in ("en", "de")
    )
    for sources, targets in ((english, german), (german, english)):
        false = sum(map(lost_sentences, sources, targets))
        assert false < 0.005 * len(sources)
        found = sum(
            lost_sentences(f"{first} {second}", target)
            for first, second, target in zip(sources[::2], sources[1::2], targets[::2], strict=False)
        )
        assert found > 0.7 * (len(sources) // 2)


@pytest.mark.parametrize("text", ["你", "a", "a. ", ".", " ", "a." + " " * 99, "。"])
def test_long_texts_take_little_time(text: str) -> None:
    """A quadratic search would take hours."""
    begin = time.monotonic()
    fewest_sentences(text * (1_000_000 // len(text)))
    assert time.monotonic() - begin < 60
