"""Runs the notebook of the documentation anew and keeps what its cells show.

pip install -e ".[demo,docs]" && python tests/digits_notebook.py
"""

import os
from pathlib import Path
from typing import Any

PATH = Path(__file__).parents[1] / "docs" / "digits.ipynb"


def executed(path: Path) -> Any:
    """The notebook at `path`, all cells run in order; an error of a cell is raised."""
    import nbformat
    from nbclient import NotebookClient

    # The kernel is a process of its own, which has to find the bnfix of this checkout.
    found = [str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, found))
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, timeout=600, kernel_name="python3").execute()
    return notebook


def shown(notebook: Any) -> list[Any]:
    """What each cell of code shows; what libraries say to the error stream is none of its own."""
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    for cell in cells:
        cell.outputs = [one for one in cell.outputs if one.get("name") != "stderr"]
        cell.metadata = {}
    return [cell.outputs for cell in cells]


if __name__ == "__main__":
    import nbformat

    notebook = executed(PATH)
    shown(notebook)
    notebook.metadata.pop("language_info", None)
    nbformat.write(notebook, PATH)
