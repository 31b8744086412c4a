"""`python -m lit_transformer.benchmark`: measure the speed of this project and of its peers on this machine."""

import argparse
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from lit_transformer.cli.commands import COMMANDS, run_command
from lit_transformer.errors import UserError
from lit_transformer.notes import print_note

if TYPE_CHECKING:
    from lit_transformer.benchmarks.sizes import Size
    from lit_transformer.cli.measurements import Printer

MEASURES = {
    "train": "optimizer steps",
    "decode": "beam search",
    "data": "tokenizing, assembling batches, and waiting for the loader",
    "startup": "the time until commands answer",
    "gpu": "everything that a GPU has to answer, planned for 8 minutes",
}
DEFAULT_MEASURES = ("train", "decode", "data", "startup")
SIZE_NAMES = ("tiny", "base", "big")
PRECISIONS = ("32-true", "bf16-mixed")
TOKENS_PER_BATCH = {"cpu": 2048, "cuda": 25_000}
NUM_BATCHES = 20


def main(args: Sequence[str] | None = None) -> None:
    """Parse, measure, print."""
    run_command("benchmark", args, add_options, run)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this command."""
    listed = "; ".join(f"{name}: {what}" for name, what in MEASURES.items())
    default = ", ".join(DEFAULT_MEASURES)
    parser.add_argument("measures", nargs="*", metavar="MEASURE", help=f"{listed}; default: {default}")
    against = "peers to compare with: torch, marian, ctranslate2, or none; default: those that are installed"
    parser.add_argument("--against", nargs="+", metavar="PEER", help=against)
    parser.add_argument("--plain_peers", action="store_true", help="do not apply the settings of this machine to peers")
    parser.add_argument("--size", choices=SIZE_NAMES, default="tiny", help="the model; default: %(default)s")
    parser.add_argument("--checkpoint", help="a trained model for decode and startup, instead of random weights")
    parser.add_argument(
        "--corpus", help="corpus for data, train and (with --checkpoint) decode; default: random lengths"
    )
    parser.add_argument("--source", default="en", help="its source language; default: %(default)s")
    parser.add_argument("--target", default="de", help="its target language; default: %(default)s")
    parser.add_argument("--settings", nargs="+", default=[], metavar="NAMES", help=SETTINGS_HELP)
    parser.add_argument("--engines", nargs="+", default=[], metavar="ENGINE", help=ENGINES_HELP)
    parser.add_argument("--precision", choices=PRECISIONS, help="of train; default: bf16-mixed on GPUs, else 32-true")
    parser.add_argument("--device", help="cpu, cuda, cuda:1, ...; default: the first GPU if there is one, else the CPU")
    parser.add_argument("--threads", type=int, help="cores that each contestant uses; default: all that are usable")
    seconds = "how long each contestant is measured, about; default: %(default)s"
    parser.add_argument("--seconds", type=float, default=10.0, help=seconds)
    tokens = "tokens of a batch of train on each side; default: 2048 on CPUs, 25000 on GPUs"
    parser.add_argument("--tokens_per_batch", type=int, help=tokens)
    batch_size = "sentences of a batch of decode; default: %(default)s"
    parser.add_argument("--batch_size", type=int, default=32, help=batch_size)
    parser.add_argument("--beam_size", type=int, default=4, help="of decode; default: %(default)s")
    vocabulary = "tokens of the vocabulary; default: 8000 for tiny, else 37000; for data 1200"
    parser.add_argument("--vocab_size", type=int, help=vocabulary)
    parser.add_argument(
        "--json", metavar="FILE", help="append one JSON line per result to a file, or print them with -"
    )


SETTINGS_HELP = (
    "settings of train to measure as well, such as compile, packing, compile+packing, activation_checkpointing"
)
ENGINES_HELP = (
    "engines of decode to measure as well, such as ctranslate2, ctranslate2:int8, torch:bfloat16, cuda_graphs"
)


def run(options: argparse.Namespace) -> None:
    """Measure what is named, one measure after the other."""
    check_options(options)
    from lit_transformer.benchmarks.environment import describe_environment, title
    from lit_transformer.cli.measurements import Printer, open_json

    complete(options)
    environment = describe_environment(options.device)
    common = {**environment, "device": options.device, "threads": options.threads}
    with ExitStack() as stack:
        printer = Printer(open_json(options.json, stack), common)
        printer.show(title(environment))
        for line in environment["machine"]:
            printer.show(f"  {line}")
        for measure in options.measures or DEFAULT_MEASURES:
            RUNS[measure](options, printer)


def check_options(options: argparse.Namespace) -> None:
    """Raise UserError if options are out of range or do not fit together."""
    for measure in options.measures:
        if measure not in MEASURES:
            raise UserError(f"there is no measure {measure!r}: choose from {', '.join(MEASURES)}")
    for name in ("threads", "seconds", "tokens_per_batch", "batch_size", "beam_size", "vocab_size"):
        value = getattr(options, name)
        if value is not None and value <= 0:
            raise UserError(f"--{name} is {value:g}: it must be more than 0")


def complete(options: argparse.Namespace) -> None:
    """Find what options leave to this machine: the peers that are installed, the device, its precision and cores."""
    from lit_transformer.benchmarks.peers import PEERS, check_peers, installed_peers, missing_line
    from lit_transformer.decoding.devices import default_device, usable_device
    from lit_transformer.machine import usable_cores

    if options.against is None:
        options.against = installed_peers()
        for name in PEERS.keys() - set(options.against):
            print_note(missing_line(name))
    options.against = [name for name in options.against if name != "none"]
    check_peers(options.against)
    device = usable_device(options.device or default_device())
    options.device = str(device)
    options.threads = options.threads or usable_cores()
    options.precision = options.precision or ("32-true" if device.type == "cpu" else "bf16-mixed")
    options.tokens_per_batch = options.tokens_per_batch or TOKENS_PER_BATCH.get(device.type, TOKENS_PER_BATCH["cuda"])


def run_train(options: argparse.Namespace, printer: "Printer") -> None:
    """Measure training."""
    from lit_transformer.benchmarks.measures import training_contest
    from lit_transformer.benchmarks.sentences import batches_of_corpus, draw_batches
    from lit_transformer.benchmarks.training import TrainingJob
    from lit_transformer.cli.measurements import print_contests

    size = chosen_size(options)
    tokens = {"tokens_per_batch": options.tokens_per_batch, "vocab_size": size.vocab_size}
    batches = (
        draw_batches(NUM_BATCHES, **tokens, seed=1)
        if options.corpus is None
        else batches_of_corpus(options.corpus, NUM_BATCHES, source=options.source, target=options.target, **tokens)
    )
    job = TrainingJob(
        size=size, batches=batches, device=options.device, precision=options.precision, threads=options.threads
    )
    settings = [tuple(names.split("+")) for names in options.settings]
    contest = training_contest(
        f"train {options.size}, {options.precision}, {options.tokens_per_batch:,} tokens per step",
        job,
        options.against,
        settings,
        seconds=options.seconds,
        plain_peers=options.plain_peers,
    )
    print_contests([contest], printer)


def run_decode(options: argparse.Namespace, printer: "Printer") -> None:
    """Measure beam search."""
    from lit_transformer.benchmarks.decoding import DecodingJob, padded_tokens, search_settings
    from lit_transformer.benchmarks.measures import decoding_contest
    from lit_transformer.benchmarks.sentences import draw_sources, sources_of_corpus
    from lit_transformer.cli.measurements import print_contests
    from lit_transformer.decoding.settings import EngineSettings

    size, is_trained = chosen_size(options), options.checkpoint is not None
    sources = (
        sources_of_corpus(
            options.corpus or "demo", NUM_BATCHES, checkpoint=options.checkpoint, batch_size=options.batch_size
        )
        if is_trained
        else draw_sources(NUM_BATCHES, batch_size=options.batch_size, vocab_size=size.vocab_size, seed=1)
    )
    engine = EngineSettings(batch_tokens=sum(map(padded_tokens, sources)) // len(sources))
    job = DecodingJob(
        size=size,
        checkpoint=options.checkpoint,
        sources=sources,
        settings=search_settings(is_trained=is_trained, beam_size=options.beam_size),
        device=options.device,
        threads=options.threads,
        engine=engine,
        # The processes of an engine share the batches of a round.
        in_batches=options.threads == 1 or options.device != "cpu",
    )
    engines = dict[str, EngineSettings]()
    for text in options.engines:
        name, _, compute_type = text.partition(":")
        engines[text] = replace(engine, engine=name, **({"compute_type": compute_type} if compute_type else {}))
    contest = decoding_contest(
        f"decode {options.checkpoint or options.size}, beam {options.beam_size}, batches of {options.batch_size}",
        job,
        options.against,
        engines,
        seconds=options.seconds,
        plain_peers=options.plain_peers,
    )
    print_contests([contest], printer)


def run_data(options: argparse.Namespace, printer: "Printer") -> None:
    """Measure the work on text and batches."""
    from lit_transformer.benchmarks.text_data import DataJob, measure_data
    from lit_transformer.cli.measurements import print_rows

    given: dict[str, Any] = {"corpus": options.corpus, "vocab_size": options.vocab_size}
    chosen = {name: value for name, value in given.items() if value is not None}
    print_rows("data", measure_data(DataJob(source=options.source, target=options.target, **chosen)), printer)


def run_startup(options: argparse.Namespace, printer: "Printer") -> None:
    """Measure the starts of commands."""
    from lit_transformer.benchmarks.startup import StartJob, measure_startup
    from lit_transformer.cli.measurements import print_rows

    job = StartJob(commands=list(COMMANDS), checkpoint=options.checkpoint)
    print_rows("startup", measure_startup(job), printer)


def run_gpu(options: argparse.Namespace, printer: "Printer") -> None:
    """Measure everything that a GPU has to answer."""
    from lit_transformer.benchmarks.ceilings import measure_ceilings
    from lit_transformer.benchmarks.gpu import FULL, SMALL, gpu_contests
    from lit_transformer.cli.measurements import print_contests, print_rows

    ceilings = measure_ceilings(options.device)
    print_rows("gpu", [ceilings], printer)
    scale = SMALL if options.device == "cpu" else FULL
    print_contests(gpu_contests(scale, options.device, options.threads, ceilings["flops_per_second"]), printer)


RUNS = {"train": run_train, "decode": run_decode, "data": run_data, "startup": run_startup, "gpu": run_gpu}


def chosen_size(options: argparse.Namespace) -> "Size":
    """The size of the models, with the vocabulary that options give it."""
    from lit_transformer.benchmarks.sizes import SIZES

    size = SIZES[options.size]
    return replace(size, vocab_size=options.vocab_size or size.vocab_size)


if __name__ == "__main__":
    main()
