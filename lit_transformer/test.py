"""`python -m lit_transformer.test`: translate a split of a corpus and score it with sacreBLEU and chrF."""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from hashlib import blake2b
from typing import Any

from lit_transformer.cli.commands import run_command
from lit_transformer.cli.options import (
    add_engine_options,
    add_search_options,
    load_translator,
    search_settings,
    translations_file,
)
from lit_transformer.cli.partial_output import origin_of, partial_output
from lit_transformer.cli.translating import append_translations
from lit_transformer.data import CACHE_DIR
from lit_transformer.errors import UserError
from lit_transformer.files import expanded
from lit_transformer.notes import print_warning


def main(args: Sequence[str] | None = None) -> dict[str, Any]:
    """Parse, translate, score, print. Return what `--json` prints."""
    return run_command("test", args, add_options, run)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this command."""
    add_search_options(parser)
    add_engine_options(parser)
    corpus = "test set: demo, copy, a folder, a file, a pair of files, or a Hub data set (docs/corpora.md)"
    parser.add_argument("--corpus", required=True, help=corpus)
    parser.add_argument("--split", help="split of the corpus; default: test, or all pairs of a corpus without splits")
    parser.add_argument("--source", help="source language as the corpus names it; default: the checkpoint's")
    parser.add_argument("--target", help="target language as the corpus names it; default: the checkpoint's")
    tokenize = "sacreBLEU's tokenizer, `none` for tokenized text; default: the one for the target language"
    parser.add_argument("--tokenize", help=tokenize)
    parser.add_argument("--lowercase", action="store_true", help="ignore case in the scores")
    output = (
        "file for the translations; default: in the run's folder `translations`; an interrupted test continues there"
    )
    parser.add_argument("--output", help=output)
    parser.add_argument("--cache_dir", default=CACHE_DIR, help="folder for prepared corpora; default: %(default)s")
    parser.add_argument("--json", action="store_true", help="print the results as one JSON object")


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Translate, score and print. Return the results."""
    from lit_transformer.data.corpus import corpus_places, has_splits, load_pairs
    from lit_transformer.data.quality import looks_tokenized, subword_warnings
    from lit_transformer.data.text import SIDES, count_pairs
    from lit_transformer.decoding.devices import allow_tf32
    from lit_transformer.evaluation.bleu import check_tokenization, score_translations, tokenization_of
    from lit_transformer.evaluation.metrics import text_metrics

    if options.tokenize is not None:
        check_tokenization(options.tokenize)
    cache_dir, chosen = expanded(options.cache_dir), options.output and expanded(options.output)
    trained, translator = load_translator(options)
    settings = search_settings(options, trained.search)
    allow_tf32(translator.device)
    tokenize = check_tokenization(options.tokenize or tokenization_of(trained.target))
    languages = {"source": options.source or trained.source, "target": options.target or trained.target}
    if not all(languages.values()):
        raise UserError("the model does not name its languages: give --source and --target")
    if options.split is not None and not has_splits(options.corpus, **languages):
        raise UserError(f"--split is {options.split}, but corpus {options.corpus} has no splits: leave out --split")
    options.split = options.split or "test"
    pairs = load_pairs(options.corpus, split=options.split, **languages, cache_dir=cache_dir)
    output = chosen or translations_file(trained, settings, options)
    inputs = [trained.path, *corpus_places(options.corpus, **languages)]
    # A translation is one line, so a line feed is a space.
    lines = [text.replace("\n", " ") for text in pairs["source"]]
    digest = blake2b("\n".join(lines).encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
    origin = origin_of(translator, settings, input_digest=digest, n_best=None)
    with partial_output(output, inputs=inputs, origin=origin) as rows:
        print(f"checkpoint {trained.path} (step {trained.step:,})", file=sys.stderr)
        begin = time.perf_counter()
        append_translations(rows, translator, lines, settings, total=len(lines))
        seconds = time.perf_counter() - begin
        translations = rows.rows()
    references, counts = list(pairs["target"]), count_pairs(pairs)
    for warning in subword_warnings({f"{options.split} {side}": pairs[side] for side in SIDES}):
        print_warning(warning)
    if tokenize != "none" and looks_tokenized(references):
        print_warning("the references are tokenized, and BLEU splits their tokens again: give --tokenize none")
    scores = score_translations(translations, references, tokenize=tokenize, lowercase=options.lowercase)
    others = {}
    for name, metric in text_metrics(tokenize=tokenize, lowercase=options.lowercase).items():
        if name not in scores._fields:  # BLEU is in both, and takes a while
            metric.update(translations, references)
            others[name] = metric.compute().item()
    about = {"sentences": counts.num_pairs, "empty": counts.num_empty, "seconds": seconds}
    places = {"checkpoint": str(trained.path), "translations": str(output)}
    results = {**scores._asdict(), **others, **about, **places}
    if options.json:
        print(json.dumps(results))
        return results
    print(f"BLEU {scores.bleu:.2f}  {scores.signature}")
    print(f"chrF {scores.chrf:.2f}  {scores.chrf_signature}")
    for name, score in others.items():
        print(f"{name} {score:.2f}")
    print(f"{counts}; translated in {seconds:.1f} seconds: {output}")
    return results


if __name__ == "__main__":
    main()
