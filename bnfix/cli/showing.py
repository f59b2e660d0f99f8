"""The command that shows the whole story on real images."""

from __future__ import annotations

from pathlib import Path

import click

from bnfix.cli import options
from bnfix.cli.quiet import quiet_tensorflow


@options.command("demo", "bnfix demo", "bnfix demo --keras tf_keras --out picture.png")
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path("bnfix-demo.png"),
    show_default=True,
    help="The picture.",
)
@click.option(
    "--epochs",
    type=click.IntRange(1),
    metavar="N",
    default=2,
    show_default=True,
    help="Of training.",
)
@click.option(
    "--seed",
    type=click.IntRange(0),
    metavar="N",
    default=0,
    show_default=True,
    help="Of weights and order.",
)
@click.option(
    "--keras",
    type=click.Choice(["keras", "tf_keras"]),
    default="keras",
    show_default=True,
    help="The package keras, or tf_keras: Keras 2.",
)
def demo(out: Path, epochs: int, seed: int, keras: str) -> int:
    """Train on real digits, see predict fail, and repair it.

    Prints a table and draws a picture. Needs pip install "bnfix[demo]".
    """
    from bnfix.demo import check_extra, run, show

    check_extra()
    with quiet_tensorflow():
        result = run(epochs=epochs, seed=seed, keras=keras)
    show(result, out)
    return 0
