"""`paligemma2 plan`: what something would take, before it is begun."""

import typer

from paligemma2.cli.plan_card import plan_card

plan = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Tell what something would take, before it is begun.",
)


@plan.callback()
def _group() -> None:
    """A group of one command keeps the command's name only with a function of its own."""


plan.command("card")(plan_card)
