"""Training as a user starts it: what a run writes, how it is resumed, that the devices do not matter, the recipes.

One small run is trained once; the tests look at what it left and go on from its checkpoints.
"""

import math
import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import sacrebleu
import torch
import torch.nn.functional as F
import yaml
from torch import Tensor, distributed

from lit_transformer import SearchSettings, Translator, average
from lit_transformer.batch import BOS_ID, EOS_ID
from lit_transformer.checkpoints.format import MODEL_ENTRY, WEIGHTS_ENTRY, read_checkpoint, save_checkpoint
from lit_transformer.checkpoints.places import load_checkpoint
from lit_transformer.data.copy_task import copy_pairs
from lit_transformer.data.datamodule import TranslationData
from lit_transformer.data.demo.corpus import demo_pairs
from lit_transformer.fit import main
from lit_transformer.runs.ending import leave_process_group
from tests.helpers.runs import (
    D_MODEL,
    EVERY,
    MAX_STEPS,
    RATE_SCALE,
    SHORT,
    WARMUP_STEPS,
    Run,
    arguments,
    events,
    fit,
    load,
    own_lines,
    same,
)


@pytest.fixture(scope="module")
def run(corpus: Path) -> Run:
    return fit(corpus, corpus.parent / "fit")


def sentences(corpus: Path, language: str) -> list[str]:
    return (corpus / f"valid.{language}").read_text(encoding="utf-8").splitlines()


def test_validation_loss_is_the_mean_over_target_tokens(corpus: Path, run: Run) -> None:
    trained = load_checkpoint(run.checkpoint(100))
    smoothed = nll = num_tokens = 0.0
    for source, target in zip(sentences(corpus, "en"), sentences(corpus, "de"), strict=True):
        source_ids, target_ids = (ids + [EOS_ID] for ids in trained.tokenizer.encode([source, target]))
        with torch.no_grad():
            logits = trained.transformer(torch.tensor([source_ids]), torch.tensor([[BOS_ID, *target_ids[:-1]]]))[0]
        labels = torch.tensor(target_ids)
        smoothed += float(F.cross_entropy(logits, labels, label_smoothing=0.1, reduction="sum"))
        nll += float(F.cross_entropy(logits, labels, reduction="sum"))
        num_tokens += len(target_ids)
    assert run.curve("val/loss")[100] == pytest.approx(smoothed / num_tokens, rel=1e-5)
    assert run.curve("val/perplexity")[100] == pytest.approx(math.exp(nll / num_tokens), rel=1e-5)


def test_a_pair_of_files_with_held_out_pairs(corpus: Path, tmp_path: Path) -> None:
    """No split is left to test on, so no command to type next tests."""
    run = fit(corpus / "train", tmp_path, data__valid_pairs=9, **SHORT)
    assert "9 training pairs" in run.output
    assert "lit_transformer.translate" in run.output
    assert "lit_transformer.test" not in run.output
    assert 4 in run.curve("val/loss")


def test_a_script_gets_the_run_its_best_checkpoint_and_its_scores(corpus: Path, tmp_path: Path) -> None:
    result = main(arguments(corpus, tmp_path, **SHORT))
    assert result is not None
    assert result.run.parent == tmp_path
    assert result.best_checkpoint == result.run / "checkpoints" / "best-step-00000004.ckpt"
    assert Translator.load(result.best_checkpoint).step == 4
    assert {"train/loss", "val/loss", "val/bleu"} <= result.scores.keys()


def greedy_bleu(corpus: Path, checkpoint: Path) -> float:
    translations = Translator.load(checkpoint, device="cpu").translate(
        sentences(corpus, "en"), SearchSettings(beam_size=1)
    )
    return float(sacrebleu.corpus_bleu(translations, [sentences(corpus, "de")]).score)


def micro_batches_per_step(checkpoint: Path) -> float:
    state = load(checkpoint)
    return float(state["loops"]["fit_loop"]["epoch_loop.batch_progress"]["total"]["ready"] / state["global_step"])


def test_64_sentences_are_learnt_by_heart(corpus: Path, run: Run) -> None:
    """Through decoding: a low loss with the wrong words would show here."""
    assert greedy_bleu(corpus, run.folder) > 80  # other seeds and processors: 95 to 99


def test_checkpoints(run: Run) -> None:
    """The newest regular ones, of the last step always, and the best one; the run's folder stands for the best."""
    best_step = max(run.curve("val/bleu").items(), key=lambda item: (item[1], -item[0]))[0]
    regular = {f"step-{step:08}.ckpt" for step in (100, 150, 200, MAX_STEPS)}
    assert run.names() == regular | {f"best-step-{best_step:08}.ckpt"}
    assert load(run.checkpoint(100))["global_step"] == 100
    assert micro_batches_per_step(run.checkpoint(100)) == 2  # the tests below are about accumulation, too


def test_intervals_count_optimizer_steps(run: Run) -> None:
    assert list(run.curve("val/loss")) == list(range(EVERY, MAX_STEPS, EVERY))
    assert list(run.curve("train/loss")) == list(range(10, MAX_STEPS + 1, 10))


def test_curves(run: Run) -> None:
    written = events(run.folder)
    assert set(written.Tags()["scalars"]) == {
        *("train/loss", "train/perplexity", "train/learning_rate", "train/gradient_norm"),
        *("train/source_tokens_per_second", "train/target_tokens_per_second"),
        *("train/padding_share", "train/data_wait_share"),
        *("val/loss", "val/perplexity", "val/bleu", "val/selection"),
    }
    for tag in ("train/padding_share", "train/data_wait_share"):
        assert all(0 <= value < 1 for value in run.curve(tag).values())
    assert run.curve("train/perplexity")[MAX_STEPS] < math.exp(run.curve("train/loss")[MAX_STEPS])  # unsmoothed
    assert "val/translations/text_summary" in written.Tags()["tensors"]
    samples = [text.tensor_proto.string_val[0].decode() for text in written.Tensors("val/translations/text_summary")]
    assert len(samples) == MAX_STEPS // EVERY
    first = demo_pairs("train", num_pairs=1)[0]
    for sentence in (first.english, first.german):
        assert sentence.removesuffix(".") in samples[0]


def test_hyper_parameters(run: Run) -> None:
    """As plain values, in TensorBoard's own place for them."""
    metadata = events(run.folder).summary_metadata
    start = metadata["_hparams_/session_start_info"].plugin_data.content
    assert b"model.transformer.d_model" in start
    written = yaml.safe_load((run.folder / "hparams.yaml").read_text(encoding="utf-8"))
    assert written["model.transformer.d_model"] == D_MODEL
    assert written["data.tokens_per_batch"] == 450
    assert all(isinstance(value, bool | int | float | str) for value in written.values())
    settings = yaml.safe_load((run.folder / "config.yaml").read_text(encoding="utf-8"))
    assert settings["model"]["transformer"]["d_model"] == D_MODEL


def test_learning_rate_follows_equation_3(run: Run) -> None:
    for step, rate in run.curve("train/learning_rate").items():
        expected = RATE_SCALE * D_MODEL**-0.5 * min(step**-0.5, step * WARMUP_STEPS**-1.5)
        assert rate == pytest.approx(expected, rel=1e-6)


def test_validation_bleu_is_sacrebleu_s(corpus: Path, run: Run) -> None:
    """Of what the model of that step really translates; TensorBoard keeps float32."""
    logged = run.curve("val/bleu")
    scores = {step: greedy_bleu(corpus, run.checkpoint(step)) for step in (100, 150, 200)}
    assert max(scores.values()) - min(scores.values()) > 5  # else it would be no test
    for step, score in scores.items():
        # Room for one word: other batches round otherwise, and a rounding may decide.
        assert logged[step] == pytest.approx(score, abs=1)
    best = load(next((run.folder / "checkpoints").glob("best-*")))["callbacks"]["best_checkpoint"]
    assert float(best["best_model_score"]) == pytest.approx(greedy_bleu(corpus, run.folder), abs=1)


def test_report(run: Run) -> None:
    report = run.output[run.output.index(f"Trained to step {MAX_STEPS}") :]
    assert "validation BLEU" in report
    for expected in (run.folder, "lit_transformer.test --checkpoint", "lit_transformer.translate", "tensorboard"):
        assert str(expected) in report


def killed(run: Run, root: Path) -> Path:
    """A copy of the run as a kill would leave it after step 100, the checkpoint of step 150 half written."""
    folder = root / "version_0"
    shutil.copytree(run.folder, folder)
    for path in (folder / "checkpoints").glob("*"):
        if path.name not in ("step-00000100.ckpt", "step-00000150.ckpt"):
            path.unlink()
    damaged = folder / "checkpoints" / "step-00000150.ckpt"
    damaged.write_bytes(damaged.read_bytes()[: damaged.stat().st_size // 2])
    return folder


def test_resumed_run_is_the_uninterrupted_one(
    corpus: Path, run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """To the bit, with dropout and accumulation, from the middle of an epoch, in the same folder."""
    data = TranslationData(
        corpus=str(corpus), vocab_size=400, character_coverage=1.0, tokens_per_batch=450, cache_dir=f"{tmp_path}/cache"
    )
    data.setup("fit")
    assert 100 % data.plan.num_batches != 0
    folder = killed(run, tmp_path)
    resumed = fit(corpus, tmp_path, ckpt_path="last")
    [note] = own_lines(capsys.readouterr().err)
    assert "step-00000150.ckpt" in note
    assert str(folder / "checkpoints" / "step-00000100.ckpt") in resumed.output
    assert [path.name for path in folder.parent.glob("version_*")] == ["version_0"]
    for step in (150, MAX_STEPS):
        mine, theirs = load(resumed.checkpoint(step)), load(run.checkpoint(step))
        assert mine["global_step"] == step
        for part in ("state_dict", "optimizer_states", "lr_schedulers"):
            assert same(mine[part], theirs[part]), part
    assert resumed.names() == run.names()
    # The events from before the kill are there, too; of equal steps the later ones count.
    assert resumed.curve("val/bleu") == run.curve("val/bleu")


MISTAKES: dict[str, tuple[dict[str, Any], str]] = {
    "nothing to resume": ({"ckpt_path": "last"}, r"ckpt_path is last: .* below .*empty"),
    "another vocabulary": (
        {"ckpt_path": "RUN", "model__vocab_size": 300},
        r"trained with another vocabulary",
    ),
    "another architecture": ({"ckpt_path": "RUN", "model__transformer__d_ff": 64}, r"d_ff 128"),
    "half a checkpoint": ({"ckpt_path": "HALF"}, r"half\.ckpt is damaged"),
    "a model folder": ({"ckpt_path": "FOLDER"}, r"cannot read the checkpoint .*/model: "),
    "an average": ({"ckpt_path": "AVERAGE"}, r"has weights only"),
    "accumulation": ({"trainer__accumulate_grad_batches": 2}, r"accumulate_grad_batches .*max_tokens_per_device"),
    "vocabulary": ({"model__vocab_size": 100_000}, r"vocab_size .*100000.* more than the text can give"),
    "warm-up": ({"model__warmup_steps": 0}, r"warmup_steps is 0"),
    "smoothing": ({"model__label_smoothing": 1.0}, r"label_smoothing is 1\.0"),
    "checkpoints": ({"checkpoints__save_top_k": -2}, r"save_top_k=-2"),
    "long sentences": ({"data__max_tokens_per_device": 5}, r"max_tokens_per_device .*5.* less than the longest"),
    "misspelt": ({"model__warmup": 5}, r"warmup"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes(name: str, corpus: Path, run: Run, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """One line on stderr, exit status 2, nothing written."""
    changes, message = MISTAKES[name]
    content = read_checkpoint(run.checkpoint(100))
    # As averages were before they became folders.
    average = {name: content[name] for name in (WEIGHTS_ENTRY, MODEL_ENTRY)}
    save_checkpoint(average, tmp_path / "average.ckpt")
    places = {"RUN": run.checkpoint(100), "AVERAGE": tmp_path / "average.ckpt", "HALF": tmp_path / "half.ckpt"}
    places["FOLDER"] = tmp_path / "model"
    if name == "a model folder":
        Translator.load(run.checkpoint(100)).save_pretrained(places["FOLDER"])
    places["HALF"].write_bytes(places["RUN"].read_bytes()[:9999])
    changes = {option: places.get(value, value) for option, value in changes.items()}
    with pytest.raises(SystemExit) as exit_status:
        fit(corpus, tmp_path / "empty", **changes)
    assert exit_status.value.code == 2
    [error] = own_lines(capfd.readouterr().err)
    assert re.match(f"error: .*{message}", error)
    assert not list((tmp_path / "empty").rglob("*.ckpt"))


class Continued(NamedTuple):
    """Three steps further from one checkpoint, in float64 and without dropout."""

    gradients: list[Tensor]
    """Of the first step."""
    weights: dict[str, Tensor]
    bleu: dict[int, float]
    micro_batches: float
    curves: dict[str, dict[int, float]]
    samples: list[str]


CONTINUED = {
    "model__transformer__dropout": 0.0,
    "trainer__precision": "64-true",
    "trainer__max_steps": 103,
    "trainer__val_check_interval": 103,
    "trainer__log_every_n_steps": 3,  # of steps 101 and 102
    "checkpoints__every_n_train_steps": 1,
    "checkpoints__save_top_k": 9,
}


def continued(run: Run, folder: Path) -> Continued:
    further = Run(folder / "version_0", "")
    before = load(run.checkpoint(100))["optimizer_states"][0]["state"]
    after = load(further.checkpoint(101))["optimizer_states"][0]["state"]
    # Adam's weights hide the gradients' scale; its first moment shows it.
    gradients = [(after[index]["exp_avg"] - 0.9 * before[index]["exp_avg"].double()) / 0.1 for index in before]
    last = load(further.checkpoint(103))
    batches = last["loops"]["fit_loop"]["epoch_loop.batch_progress"]["total"]["ready"]
    curves = {name: further.curve(name) for name in ("train/loss", "train/perplexity", "train/gradient_norm")}
    texts = events(further.folder).Tensors("val/translations/text_summary")
    samples = [text.tensor_proto.string_val[0].decode() for text in texts]
    return Continued(gradients, last["state_dict"], further.curve("val/bleu"), batches / 103, curves, samples)


@pytest.fixture(scope="module")
def alone(corpus: Path, run: Run) -> Continued:
    """One device, one micro-batch a step."""
    root = corpus.parent / "1x1"
    fit(corpus, root, **CONTINUED, ckpt_path=run.checkpoint(100), data__max_tokens_per_device=2000)
    return continued(run, root)


def check_same_steps(mine: Continued, alone: Continued, micro_batches: int) -> None:
    assert (alone.micro_batches, mine.micro_batches) == (1, micro_batches)
    for gradient, expected in zip(mine.gradients, alone.gradients, strict=True):
        torch.testing.assert_close(gradient, expected, rtol=1e-6, atol=1e-6 * float(expected.abs().max()))
    for name, weight in mine.weights.items():
        torch.testing.assert_close(weight, alone.weights[name], rtol=1e-6, atol=1e-9)
    assert (mine.bleu, mine.samples) == (alone.bleu, alone.samples)
    assert list(alone.bleu) == [103]
    for name, curve in mine.curves.items():
        assert list(curve) == [102]
        assert curve == pytest.approx(alone.curves[name], rel=1e-6), name


def test_weights_that_are_no_numbers_stop_the_run(
    corpus: Path, run: Run, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """At the next report at the latest, with the step and its sentences; nothing is saved over what was there."""
    broken = load(run.checkpoint(100))
    broken["state_dict"]["transformer.embedding.weight"][7, 7] = math.nan
    save_checkpoint(broken, tmp_path / "broken.ckpt")
    with pytest.raises(SystemExit) as exit_status:
        fit(corpus, tmp_path / "runs", ckpt_path=tmp_path / "broken.ckpt")
    assert exit_status.value.code == 2
    [error] = own_lines(capfd.readouterr().err)
    assert re.match(r"error: .*gradients of step 101 are not finite.* pairs of up to \d+ .*, the first: \w", error)
    assert not list((tmp_path / "runs").rglob("*.ckpt"))


def test_accumulation_changes_nothing(corpus: Path, run: Run, alone: Continued, tmp_path: Path) -> None:
    """One device with 4 micro-batches; the checkpoint is of a run that had 2."""
    further = fit(corpus, tmp_path, **CONTINUED, ckpt_path=run.checkpoint(100), data__max_tokens_per_device=240)
    # None of step 100, which would be of a step half done.
    assert further.names() - {"best-step-00000103.ckpt"} == {f"step-{step:08}.ckpt" for step in (101, 102, 103)}
    check_same_steps(continued(run, tmp_path), alone, micro_batches=4)


def test_packing_changes_nothing(corpus: Path, run: Run, alone: Continued, tmp_path: Path) -> None:
    """In a run that goes on from a padded one. It has half as many micro-batches as it would have without packing."""
    changes = {"data__packing": True, "data__max_tokens_per_device": 240}
    fit(corpus, tmp_path, **CONTINUED, ckpt_path=run.checkpoint(100), **changes)
    check_same_steps(continued(run, tmp_path), alone, micro_batches=2)


LATIN = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
GREEK = "αβγδεζηθικλμνξοπρστυφχψωάέΑΒΓΔΕΖΗΘΙΚΛΜΝΞΟΠΡΣΤΥΦΧΨΩΆΈ"


def test_one_vocabulary_per_side(corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A run from Greek letters to Latin ones, from the first step to the translations of an average."""
    greek = tmp_path / "greek"
    greek.mkdir()
    for split in ("train", "valid"):
        english = (corpus / f"{split}.en").read_text(encoding="utf-8")
        (greek / f"{split}.el").write_text(english.translate(str.maketrans(LATIN, GREEK)), encoding="utf-8")
        shutil.copy(corpus / f"{split}.de", greek)
    settings = {"data__source": "el", "model__source_vocab_size": 250, "model__vocab_size": 260}
    steps = {"trainer__val_check_interval": 40, "checkpoints__every_n_train_steps": 40}
    fit(greek, tmp_path / "runs", **settings, **steps, trainer__max_steps=40)
    run = fit(greek, tmp_path / "runs", **settings, **steps, trainer__max_steps=80, ckpt_path="auto")
    assert run.curve("val/loss")[80] < run.curve("val/loss")[40] < math.log(260)
    with pytest.raises(SystemExit):
        fit(greek, tmp_path / "runs", **(settings | {"model__source_vocab_size": "null"}), ckpt_path="auto")
    assert "model.source_vocab_size" in capsys.readouterr().err
    average.main(["--run", str(tmp_path / "runs"), "--last", "2"])
    sources = sentences(greek, "el")
    for place in (run.folder, run.folder / "checkpoints" / "average-2"):
        translator = Translator.load(place, device="cpu")
        assert [tokenizer.vocab_size for tokenizer in translator.vocabularies] == [250, 260]
        translations = translator.candidates(sources, SearchSettings(beam_size=4, n_best=4))
        assert not set("".join(each.text for found in translations for each in found)) & set(GREEK)
        assert len({found[0].text for found in translations}) > 3
        attention = translator.attention(sources[0])
        assert "".join(attention.source[:-1]).replace("▁", " ").strip() == sources[0]


def torchrun(*options: str) -> list[str]:
    return ["-m", "torch.distributed.run", "--master_port", "PORT", *options, "-m"]


LAUNCHERS: dict[str, tuple[dict[str, Any], list[list[str]]]] = {
    "by itself": ({"devices": 2}, [["-m"]]),
    "packed": ({"devices": 2, "data__packing": True}, [["-m"]]),
    "torchrun": ({"devices": "auto"}, [torchrun("--nproc_per_node", "2")]),
    "two nodes": (
        {"devices": "auto"},
        [torchrun("--nnodes", "2", "--node_rank", rank) for rank in ("0", "1")],
    ),
    "two nodes of two": (
        {"devices": 2, "trainer__num_nodes": 2},
        [torchrun("--nnodes", "2", "--nproc_per_node", "2", "--node_rank", rank) for rank in ("0", "1")],
    ),
}


SLOW_LAUNCHERS = ("packed", "torchrun", "two nodes of two")  # "two nodes" are torchrun's, too


@pytest.mark.parametrize(
    "launcher", [pytest.param(name, marks=[pytest.mark.slow] * (name in SLOW_LAUNCHERS)) for name in LAUNCHERS]
)
def test_processes_change_nothing(
    launcher: str, corpus: Path, run: Run, alone: Continued, tmp_path: Path, repo_root: Path
) -> None:
    """Two processes with 2 micro-batches each, or with 1 if it is packed, or four with 1, however they are started."""
    changes, prefixes = LAUNCHERS[launcher]
    world_size = 4 if "trainer__num_nodes" in changes else 2
    micro_batches = 1 if world_size == 4 or "data__packing" in changes else 2
    options = arguments(
        corpus, tmp_path, **CONTINUED, ckpt_path=run.checkpoint(100), data__max_tokens_per_device=240, **changes
    )
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = str(free.getsockname()[1])
    processes = [
        subprocess.Popen(
            [sys.executable, *(port if part == "PORT" else part for part in prefix), "lit_transformer.fit", *options],
            cwd=repo_root,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for prefix in prefixes
    ]
    outputs = [process.communicate(timeout=300) for process in processes]
    errors = "".join(error for _, error in outputs)
    assert all(process.returncode == 0 for process in processes), errors
    assert f"on {world_size} x cpu" in outputs[0][0]
    was = "note: the checkpoint was made with"
    said = [f"{was} devices 1, this run has {world_size}", f"{was} precision 32-true, this run has 64-true"]
    if micro_batches == 1:
        said.insert(1, f"{was} micro_batches 2, this run has 1")
    said.append("note: settings that differ from those of the checkpoint")
    assert [":".join(line.split(":")[:2]) for line in own_lines(errors)] == said, errors
    check_same_steps(continued(run, tmp_path), alone, micro_batches=micro_batches)


def fit_fully_sharded(corpus: Path, root: Path, repo_root: Path, **changes: Any) -> Run:
    """Train on two processes, with a stand-in for two GPUs."""
    options = arguments(corpus, root, devices=2, trainer__strategy="fsdp", **changes)
    program = [sys.executable, "-W", "ignore", "tests/helpers/fsdp_on_cpu.py", *options]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(repo_root)}
    ended = subprocess.run(program, cwd=repo_root, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    return Run(root / "version_0", ended.stdout)


@pytest.mark.slow
def test_fully_sharded_training_takes_the_same_steps(
    corpus: Path, run: Run, alone: Continued, tmp_path: Path, repo_root: Path
) -> None:
    """Begun from one device's checkpoint, and again from its own."""
    changes = {**CONTINUED, "trainer__precision": "32-true"}
    runs, started_from = [], run.checkpoint(100)
    for name in ("first", "again"):
        runs.append(fit_fully_sharded(corpus, tmp_path / name, repo_root, **changes, ckpt_path=started_from))
        started_from = runs[-1].checkpoint(102)
    first, again = (load(one.checkpoint(103)) for one in runs)
    assert same(first["state_dict"], again["state_dict"])
    assert same(first["optimizer_states"], again["optimizer_states"])
    for name, weight in first["state_dict"].items():
        torch.testing.assert_close(weight, alone.weights[name].float(), rtol=1e-4, atol=1e-5)
    for name in ("train/loss", "train/gradient_norm"):
        assert runs[0].curve(name) == pytest.approx(alone.curves[name], rel=1e-4), name


@pytest.mark.slow
@pytest.mark.parametrize(("micro_batches", "tokens_per_device"), [(8, 160), (16, 90)])
def test_fully_sharded_training_in_mixed_precision_reports_the_truth(
    micro_batches: int, tokens_per_device: int, corpus: Path, tmp_path: Path, repo_root: Path
) -> None:
    """The loss and gradient norm of one device in float32, but for bfloat16's rounding; all 64 pairs are a step.

    A report is of 320 micro-batches: sums in bfloat16 would not grow beyond 256.
    """
    changes = {
        "model__transformer__dropout": 0.0,
        "model__learning_rate_scale": 0.01,  # roundings must not become other weights
        "data__tokens_per_batch": 2000,
        "trainer__max_steps": 320 // micro_batches,
        "trainer__log_every_n_steps": 320 // micro_batches,
    }
    truth = fit(corpus, tmp_path / "alone", **changes, data__max_tokens_per_device=2000)
    sharded = fit_fully_sharded(
        corpus,
        tmp_path / "sharded",
        repo_root,
        **changes,
        trainer__precision="bf16-mixed",
        data__max_tokens_per_device=tokens_per_device,
    )
    assert f" {micro_batches} micro-batches per step" in sharded.output
    assert sharded.curve("train/loss") == pytest.approx(truth.curve("train/loss"), rel=0.01)
    assert sharded.curve("train/gradient_norm") == pytest.approx(truth.curve("train/gradient_norm"), rel=0.05)


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="reads the thread names from Linux' /proc")
def test_a_process_leaves_its_group(tmp_path: Path) -> None:
    """Otherwise one run in many ends with SIGABRT: gloo's threads have to end before the interpreter does."""
    distributed.init_process_group("gloo", init_method=f"file://{tmp_path / 'rendezvous'}", rank=0, world_size=1)
    distributed.all_reduce(torch.ones(1))
    assert any("gloo" in name for name in thread_names())
    leave_process_group()
    assert not any("gloo" in name for name in thread_names())
    leave_process_group()


def thread_names() -> list[str]:
    return [task.read_text() for task in Path("/proc/self/task").glob("*/comm")]


@pytest.mark.slow
def test_copy_task_is_learnt(repo_root: Path, tmp_path: Path) -> None:
    """As the recipe is, to 100 % exact sequences of the test split under greedy search."""
    recipe = str(repo_root / "experiments" / "copy.yaml")
    places = ["--trainer.default_root_dir", str(tmp_path / "runs"), "--data.cache_dir", str(tmp_path / "cache")]
    main(["--config", recipe, "--trainer.accelerator", "cpu", *places])
    sources, targets = zip(*copy_pairs("test"), strict=True)
    assert Translator.load(tmp_path / "runs", device="cpu").translate(sources, SearchSettings(beam_size=1)) == list(
        targets
    )
