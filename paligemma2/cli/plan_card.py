"""`paligemma2 plan card`."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from paligemma2.cli.terminal import print_rows

if TYPE_CHECKING:
    from paligemma2.jobs.plan_card import CardPlan, TaskPlan

_HEADER = (
    "task",
    "train examples",
    "train GPU h",
    "GPUs",
    "GB each",
    "eval examples",
    "eval GPU h",
    "batch",
    "GB",
)


def plan_card(
    size: Annotated[str, typer.Option(help="Of the model: 3b, 10b or 28b.")] = "3b",
    resolution: Annotated[int, typer.Option(help="Of the pictures: 224 or 448.")] = 224,
    device: Annotated[str, typer.Option(help="The GPU: a100, h100 or h200.")] = "h100",
    utilisation: Annotated[
        float, typer.Option(help="Share of the GPU's peak that is reached; an assumption.")
    ] = 0.4,
) -> None:
    """Tell what repeating a column of the card takes: data, GPU hours and memory."""
    from paligemma2.jobs.plan_card import PlanCardConfig, run

    config = PlanCardConfig(
        size=size.lower(), resolution=resolution, device=device.lower(), utilisation=utilisation
    )
    plan = run(config)
    for line in _head(plan):
        print(line)
    print()
    print_rows(_HEADER, [*(_cells(task) for task in plan.tasks), _total(plan)])
    for title, lines in (
        ("To fetch", list(_downloads(plan))),
        ("What cannot be repeated exactly", list(_inexact(plan))),
        ("Without a number in this column", list(plan.left_out)),
    ):
        if lines:
            print(f"\n{title}:")
        for line in lines:
            print(f"  {line}")


def _head(plan: "CardPlan") -> Iterator[str]:
    from paligemma2.report.costs import ANSWER_TOKENS, DEVICES

    config, device = plan.config, DEVICES[plan.config.device]
    yield f"The column {config.column} of the card on {device.title}, by arithmetic; nothing was measured."
    yield (
        f"Assumed: {100 * config.utilisation:.0f} % of {device.flops / 1e12:.0f} TFLOP/s and of "
        f"{device.bandwidth / 1e12:.1f} TB/s; texts as long as the task allows, answers of at most "
        f"{ANSWER_TOKENS} tokens."
    )
    yield (
        "Training: weights and states in float32, one example at a time on each GPU. Evaluation: bfloat16, "
        "one GPU. One run of each transfer; the card's numbers are means of five."
    )


def _cells(task: "TaskPlan") -> tuple[str, ...]:
    training, evaluation = task.training, task.evaluation
    seen = "not known" if task.train_examples is None else f"{task.train_examples:,.0f}"
    return (
        task.name,
        f"as {task.transfer_from}" if task.transfer_from else seen,
        "" if training is None else f"{training.gpu_hours:,.1f}",
        "" if training is None else str(training.devices or "over 64"),
        "" if training is None else f"{training.memory.total / 1e9:.0f}",
        "not known" if task.eval_examples is None else f"{task.eval_examples:,}",
        "" if evaluation is None else f"{evaluation.gpu_hours:,.3f}",
        "" if evaluation is None else str(evaluation.batch or "none fits"),
        "" if evaluation is None else f"{evaluation.memory / 1e9:.0f}",
    )


def _total(plan: "CardPlan") -> tuple[str, ...]:
    return ("all", "", f"{plan.training_hours:,.0f}", "", "", "", f"{plan.evaluation_hours:,.1f}", "", "")


def _downloads(plan: "CardPlan") -> Iterator[str]:
    for each in plan.downloads:
        needed = [task.name for task in plan.tasks if each in task.downloads]
        size = "size not known" if each.gigabytes is None else f"{each.gigabytes:g} GB"
        yield f"{', '.join(needed)}: {each.what}, {size}, licence: {each.licence}; {each.url}"
    known = sum(each.gigabytes or 0 for each in plan.downloads)
    unknown = sum(each.gigabytes is None for each in plan.downloads)
    if plan.downloads:
        more = f" and {unknown} of unknown size" if unknown else ""
        yield f"together {known:,.1f} GB{more}"


def _inexact(plan: "CardPlan") -> Iterator[str]:
    for task in plan.tasks:
        if task.inexact_reason:
            yield f"{', '.join(task.published)}: {task.inexact_reason}"
