"""`python -m lit_transformer.test`: translate a split of a corpus and score it with sacreBLEU and chrF."""

import argparse
import json
import re
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from lit_transformer.cli.commands import run_command
from lit_transformer.cli.options import add_search_options, search_settings
from lit_transformer.data import CACHE_DIR
from lit_transformer.errors import UserError
from lit_transformer.files import output_file


def main(args: Sequence[str] | None = None) -> None:
    """Parse, translate, score, print."""
    run_command("test", args, add_options, run)


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of this command."""
    add_search_options(parser)
    parser.add_argument("--corpus", required=True, help="demo, copy, a folder of SPLIT.LANG files, a Hub data set")
    parser.add_argument("--split", default="test", help="default %(default)s")
    parser.add_argument("--source", help="language as the corpus names it; the checkpoint's when left out")
    parser.add_argument("--target", help="the same of the language to translate into")
    parser.add_argument(
        "--tokenize", help="sacreBLEU's tokenizer, `none` for tokenized text; by the target language when left out"
    )
    parser.add_argument("--lowercase", action="store_true", help="score without regard to case")
    parser.add_argument("--output", help="file for the translations; beside the run's checkpoints when left out")
    parser.add_argument("--cache_dir", default=CACHE_DIR, help="where prepared corpora are kept")
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else on stdout")


def run(options: argparse.Namespace) -> None:
    """Translate and score as the options say."""
    from lit_transformer.checkpoints.places import load_checkpoint
    from lit_transformer.data.corpus import as_folder, load_pairs
    from lit_transformer.decoding.devices import allow_tf32, default_device
    from lit_transformer.decoding.translator import Translator
    from lit_transformer.evaluation.bleu import check_tokenization, score_translations, tokenization_of
    from lit_transformer.evaluation.metrics import text_metrics

    if options.tokenize is not None:
        check_tokenization(options.tokenize)
    settings = search_settings(options)
    trained = load_checkpoint(options.checkpoint)
    tokenize = check_tokenization(options.tokenize or tokenization_of(trained.target))
    try:
        pairs = load_pairs(
            options.corpus,
            split=options.split,
            source=options.source or trained.source,
            target=options.target or trained.target,
            cache_dir=Path(options.cache_dir),
        )
    except UserError as error:
        raise UserError(str(error).replace("--data.", "--")) from error  # it names the options of fit
    output = Path(options.output) if options.output else default_output(trained.path, trained.target, options)
    device = default_device() if options.device is None else options.device
    translator = Translator(trained.transformer, trained.tokenizer, device=device, batch_tokens=options.batch_tokens)
    allow_tf32(translator.device)
    inputs = [trained.path, *filter(None, [as_folder(options.corpus)[0]])]
    with output_file(output, inputs=inputs) as unfinished, unfinished.open("w", encoding="utf-8", newline="\n") as file:
        print(f"checkpoint {trained.path} (step {trained.step:,})", file=sys.stderr)
        begin = time.perf_counter()
        translations = translator.translate(list(pairs["source"]), settings)
        seconds = time.perf_counter() - begin
        file.writelines(f"{text}\n" for text in translations)
    references = list(pairs["target"])
    scores = score_translations(translations, references, tokenize=tokenize, lowercase=options.lowercase)
    metrics = text_metrics(tokenize=tokenize, lowercase=options.lowercase)
    metrics.update(translations, references)
    others = {name: score.item() for name, score in metrics.compute().items() if name not in scores._fields}
    if options.json:
        print(
            json.dumps(
                {
                    **scores._asdict(),
                    **others,
                    "sentences": len(translations),
                    "seconds": seconds,
                    "checkpoint": str(trained.path),
                    "translations": str(output),
                }
            )
        )
        return
    print(f"BLEU {scores.bleu:.2f}  {scores.signature}")
    print(f"chrF {scores.chrf:.2f}  {scores.chrf_signature}")
    for name, score in others.items():
        print(f"{name} {score:.2f}")
    print(f"{len(translations):,} sentences in {seconds:.1f} seconds; translations: {output}")


def default_output(checkpoint: Path, target: str, options: argparse.Namespace) -> Path:
    """A file that names all that the translations depend on.

    It lies in the run's folder, else beside the checkpoint; for a model of the Hub in the working directory.
    """
    settings = f"beam{options.beam_size}-alpha{options.length_penalty:g}"
    # The language is what the model says: it must not name another folder.
    corpus, split, language = (re.sub(r"\W+", "-", part).strip("-") for part in (options.corpus, options.split, target))
    folder = checkpoint.parent
    run = folder.parent if folder.name == "checkpoints" else folder
    name = checkpoint.name.removesuffix(".ckpt")
    return run / "translations" / f"{corpus}.{split}.{name}.{settings}.{language}"


if __name__ == "__main__":
    main()
