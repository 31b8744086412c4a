"""The data of models of one language: rows, noise, and batches for any number of devices."""

from collections.abc import Iterable
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lit_transformer.batch import EOS_ID, PAD_ID, AnyBatch, Batch, RestoredBatch, TokenBatch
from lit_transformer.data.lines import cut_blocks
from lit_transformer.data.objectives import CausalLM, MaskedLM, Objective, SpanCorruption, TextInfilling
from lit_transformer.data.stream import TrainingStream
from lit_transformer.data.text_data import TextData
from lit_transformer.data.text_rows import longest_row
from lit_transformer.errors import UserError
from tests.helpers.corpora import NUM_SENTENCES, make_corpus, write_folder

VOCAB_SIZE = 151
SEED = 7
OBJECTIVES = [CausalLM(), MaskedLM(), TextInfilling(), SpanCorruption()]


def prepared(folder: Path, objective: Objective, **settings: Any) -> TextData:
    corpus = make_corpus(folder / "corpus")
    if not (corpus / "test.en").exists():
        write_folder(corpus, {"test.en": "The dogs see a cat.\n\nOne cat.\n"})
    made: dict[str, Any] = {"vocab_size": VOCAB_SIZE, "tokens_per_batch": 211, "max_tokens_per_device": 101}
    made |= {"block_length": 17, "cache_dir": str(folder / "cache"), "seed": SEED, "character_coverage": 1.0}
    data = TextData(str(corpus), **(made | settings))
    data.objective = objective
    data.prepare_data()
    data.setup("fit")
    return data


def streams(data: TextData, world_size: int) -> list[TrainingStream]:
    return [
        TrainingStream(
            data.plan, data.assembler(), epochs=data.epochs, accumulation=2, rank=rank, world_size=world_size
        )
        for rank in range(world_size)
    ]


def rows_of(batches: Iterable[AnyBatch]) -> list[tuple[tuple[int, ...], ...]]:
    """Return what is read and predicted in each row that predicts something, in an order that is always the same."""
    rows = []
    for batch in batches:
        assert isinstance(batch, Batch | TokenBatch)
        read, predicted = batch[0], batch.target_output_BT if isinstance(batch, Batch) else batch.output_BL
        for pair in zip(read.tolist(), predicted.tolist(), strict=True):
            if any(pair[1]):
                rows.append(tuple(tuple(np.trim_zeros(side, "b")) for side in pair))
    return sorted(rows)


def test_blocks_begin_with_the_token_before_them() -> None:
    blocks = cut_blocks(np.array([5, 6, EOS_ID, 7, EOS_ID]), 2)
    assert [block.tolist() for block in blocks] == [[EOS_ID, 5, 6], [6, EOS_ID, 7], [7, EOS_ID]]


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_devices_share_the_rows_of_a_step_with_the_same_noise(objective: Objective, tmp_path: Path) -> None:
    data = prepared(tmp_path, objective)
    for step in (0, 3, data.plan.num_batches + 1):
        found = []
        for world_size in (1, 2, 4):
            batches = [stream.batch(step, part) for stream in streams(data, world_size) for part in (0, 1)]
            assert len({batch.step_target_tokens for batch in batches}) == 1
            assert sum(batch.num_target_tokens for batch in batches) == batches[0].step_target_tokens
            found.append(rows_of(batches))
        assert found[0] == found[1] == found[2]


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_a_stream_from_any_step_goes_on_exactly(objective: Objective, tmp_path: Path) -> None:
    [stream] = streams(prepared(tmp_path, objective), 1)
    whole, rest = list(islice(stream, 20)), list(islice(stream.from_step(5), 10))
    for batch, expected in zip(rest, whole[10:], strict=True):
        assert batch[-3:] == expected[-3:]
        assert rows_of([batch]) == rows_of([expected])


def test_noise_is_new_in_each_epoch(tmp_path: Path) -> None:
    data = prepared(tmp_path, MaskedLM())
    assembler, rows = data.assembler(), np.arange(20)
    first, again, later = (rows_of([assembler.batch(rows, step=step)]) for step in (2, 2, 99))
    assert first == again != later
    other = replace(assembler, seed=SEED + 1)
    assert rows_of([other.batch(rows, step=2)]) != first


def test_a_gpt_predicts_every_token_once_per_epoch(tmp_path: Path) -> None:
    data = prepared(tmp_path, CausalLM())
    batches = list(data.train_dataloader())
    assert sum(batch.num_target_tokens for batch in batches) == data.tokens.report.num_tokens
    lines = (tmp_path / "corpus" / "train.en").read_text().splitlines()
    blocks = [row[1:] for row in data.training_rows]
    assert [len(block) for block in blocks[:-1]] == [17] * (len(blocks) - 1)
    text = np.split(flat := np.concatenate(blocks), np.flatnonzero(flat == EOS_ID) + 1)[:-1]
    assert data.tokenizer.decode([ids.tolist() for ids in text]) == lines
    predicted = [row for _, row in rows_of(batches)]
    assert sorted(predicted) == sorted(tuple(block.tolist()) for block in blocks)


def test_what_is_validated_never_changes(tmp_path: Path) -> None:
    noisy: list[Objective] = [MaskedLM(), TextInfilling(), SpanCorruption()]
    for objective in noisy:
        first, again = (prepared(tmp_path, objective, seed=seed) for seed in (1, 2))
        for one, other in zip(first.val_dataloader(), again.val_dataloader(), strict=True):
            assert isinstance(one, RestoredBatch)
            assert rows_of([one.batch]) == rows_of([other.batch])
            output = one.batch.target_output_BT if isinstance(one.batch, Batch) else one.batch.output_BL
            assert one.restored.shape == output.shape
            assert (output[one.restored] != PAD_ID).all()
        indices = sum(int((batch.batch[0][:, 0] != PAD_ID).sum()) for batch in first.val_dataloader())
        assert indices == NUM_SENTENCES


def test_the_test_set_has_no_empty_lines_and_known_places(tmp_path: Path) -> None:
    data = prepared(tmp_path, TextInfilling())
    assert len(data.test_rows) == len(data.test_examples) == 2
    [batch] = data.test_dataloader()
    assert int(batch.restored.sum()) == sum(int(example.hidden.sum()) for example in data.test_examples)


def test_symbols_come_from_the_objective(tmp_path: Path) -> None:
    assert prepared(tmp_path, MaskedLM()).tokenizer.keeps("<mask>")
    t5 = prepared(tmp_path, SpanCorruption(), symbols=["<x>"]).tokenizer
    assert t5.keeps("<extra_id_0>")
    assert t5.keeps("<x>")
    plain = prepared(tmp_path, CausalLM()).tokenizer
    assert not plain.keeps("<mask>")
    (tmp_path / "plain.model").write_bytes(plain.model_bytes)
    with pytest.raises(UserError, match="<mask>"):
        prepared(tmp_path, MaskedLM(), tokenizer=str(tmp_path / "plain.model"))
    assert prepared(tmp_path, CausalLM(), tokenizer=str(tmp_path / "plain.model")).tokens.report.num_unknown == 0


def test_what_the_model_cannot_take(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="block_length is 17"):
        prepared(tmp_path, CausalLM(), max_positions=16)
    assert max(map(len, prepared(tmp_path, CausalLM(), max_positions=13, block_length=None).training_rows)) == 14
    with pytest.raises(UserError, match="tokens_per_batch is 16"):
        prepared(tmp_path, CausalLM(), tokens_per_batch=16)
    data = prepared(tmp_path, MaskedLM(), max_positions=14)
    assert data.tokens.report.dropped_long > 0
    assert data.num_cut == data.tokens.report.dropped_long  # the same text
    assert any("cut" in warning for warning in data.warnings)
    assert max(batch.batch.input_BL.shape[1] for batch in data.val_dataloader()) == 14


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("most", [2, 3, 5, 17, 100])
def test_the_longest_row_fits_the_positions(objective: Objective, most: int) -> None:
    longest = longest_row(objective, most)
    assert all((each <= most).all() for each in objective.lengths(np.arange(2, longest + 1)))
    if not isinstance(objective, SpanCorruption):  # T5 reads fewer tokens than a row has
        assert max(int(each[0]) for each in objective.lengths(np.array([longest + 1]))) > most


def test_counts_and_warnings(tmp_path: Path) -> None:
    data = prepared(tmp_path, MaskedLM())
    assert f"{NUM_SENTENCES} of {NUM_SENTENCES} lines kept" in data.summary
    assert any("lines stand in the training text" in warning for warning in data.warnings)
    assert "rows of up to" in data.describe_step(0)
    other = prepared(tmp_path, MaskedLM(0.3))
    assert other.fingerprint != data.fingerprint
    few = write_folder(tmp_path / "few", {"train.en": "ab\n", "valid.en": "ab\nxyz\n"})
    data = TextData(str(few), vocab_size=7, cache_dir=str(tmp_path / "cache"), byte_fallback=False)
    data.prepare_data()
    assert any("characters that the vocabulary lacks" in (each.warning or "") for each in data.coverage)


@pytest.mark.parametrize(
    ("settings", "named"), [({"block_length": 1}, "block_length"), ({"valid_lines": -1}, "valid_lines")]
)
def test_settings_are_checked(settings: dict[str, Any], named: str) -> None:
    with pytest.raises(UserError, match=named):
        TextData(**settings)
