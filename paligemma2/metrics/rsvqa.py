"""RSVQA (Lobry et al. 2020, arXiv:2003.07333): questions about satellite pictures, of five types."""

from collections.abc import Collection, Sequence

from paligemma2.metrics.exact import exact_match
from paligemma2.metrics.scores import Metric, Reference, Scores, mean_score, scored

_NON_NUMERIC = ("comp", "presence", "rural_urban")
_HIGH_RESOLUTION = ("comp", "presence")


def rsvqa_accuracy(
    predictions: Sequence[str], references: Sequence[Reference], *, ignore_case: bool = True
) -> Scores:
    """The mean over the non-numeric types of questions of the accuracy on each; big_vision's `acc_avg_nonum`.

    big_vision gives that name first to the mean over `comp`, `presence` and `rural_urban` and then, where
    both occur, to the mean over `comp` and `presence`, which stays. So types that count are these two;
    `rural_urban` counts where one of them is missing. The mean over all three is among the parts.

    Args:
        predictions: what the model wrote.
        references: of each prediction; `meta["type"]` is the type of the question. An example without
            answers, or of a type that does not count, is in no group.
        ignore_case: compare in lower case, as the card does.

    Returns:
        Scores whose parts are "acc_any" (over all questions), "acc_<type>", "acc_avg" (mean over all types),
        and "acc_avg_nonum_lr" (mean over the non-numeric types that occur, where one does).

    Raises:
        InputError: no question of a type that counts has an answer.
    """
    types = {str(reference.meta.get("type", "")) for reference in references if reference.answers}
    wanted = _HIGH_RESOLUTION if types.issuperset(_HIGH_RESOLUTION) else _NON_NUMERIC
    return _mean_over_types(predictions, references, wanted, ignore_case)


def _mean_over_types(
    predictions: Sequence[str], references: Sequence[Reference], wanted: Collection[str], ignore_case: bool
) -> Scores:
    values = exact_match(predictions, references, ignore_case=ignore_case).values
    types = [str(reference.meta.get("type", "")) if reference.answers else "" for reference in references]
    parts = {"acc_any": mean_score(values, ["all" if reference.answers else "" for reference in references])}
    for name in sorted(set(filter(None, types))):
        parts[f"acc_{name}"] = mean_score(values, [name if each == name else "" for each in types])
    if any(types):
        parts["acc_avg"] = mean_score(values, types)
    non_numeric = [name if name in _NON_NUMERIC else "" for name in types]
    if any(non_numeric):
        parts["acc_avg_nonum_lr"] = mean_score(values, non_numeric)
    return scored(values, groups=[name if name in wanted else "" for name in types], parts=parts)


RSVQA_ACCURACY = Metric(
    name="mean accuracy of types",
    source="google-research/big_vision, evaluators/proj/paligemma/transfers/rsvqa.py",
    paligemma=rsvqa_accuracy,
)
"""Both RSVQA-lr and RSVQA-hr. The authors' repository has no scorer of its own."""
