"""The scores of translations, by name. Validation and `test` iterate over this collection."""

from torchmetrics import MetricCollection

from lit_transformer.evaluation.bleu import CorpusBLEU, CorpusCHRF, Tokenization


def text_metrics(
    *, tokenize: Tokenization = "13a", lowercase: bool = False, prefix: str | None = None
) -> MetricCollection:
    """Metrics that are updated with translations and references, two lists of strings.

    One line here adds a metric to what validation prints, to TensorBoard, and to the output of `test`.

    Args:
        tokenize: sacrebleu's tokenizer for BLEU.
        lowercase: Whether BLEU ignores case.
        prefix: Begins the names.
    """
    return MetricCollection(
        {
            "bleu": CorpusBLEU(tokenize=tokenize, lowercase=lowercase),
        },
        prefix=prefix,
        compute_groups=False,
    )


def final_metrics(*, tokenize: Tokenization = "13a", prefix: str | None = None) -> MetricCollection:
    """Those of validation, and chrF, which takes longer."""
    metrics = text_metrics(tokenize=tokenize, prefix=prefix)
    metrics.add_metrics({"chrf": CorpusCHRF()})
    return metrics
