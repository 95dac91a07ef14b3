"""`paligemma2 data`: the verbs for data sets."""

import typer

from paligemma2.cli.data_check import data_check
from paligemma2.cli.data_convert import data_convert
from paligemma2.cli.data_make import data_make
from paligemma2.cli.data_pack import data_pack

data = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Convert, check, draw and pack data sets.",
)
data.command("convert")(data_convert)
data.command("check")(data_check)
data.command("make")(data_make)
data.command("pack")(data_pack)
