"""What runs long tells how far it is: on a terminal, in a notebook, and nowhere else."""

import sys
import types

import numpy as np
import pytest
import rich.console
import zoo
from zoo.courses import digits_resnet

import bnfix
from bnfix.progress import counted, progress


def trained(K):
    K.utils.set_random_seed(0)
    model = digits_resnet(K)
    model.compile("sgd", "sparse_categorical_crossentropy")
    zoo.randomise_batch_norms(model, 0)
    return model


def data():
    r = np.random.default_rng(0)
    return r.random((48, 8, 8, 1), np.float32), r.integers(0, 10, 48)


def jobs(model, folder):
    """What each of them has to say in the meantime; all of it is on the same model."""
    x, y = data()
    kept, repaired = folder / "model.keras", folder / "repaired.keras"
    model.save(kept)
    again = bnfix.load(kept, verbose=0)
    wide = bnfix.batch_invariant(model, x=x[:4])
    return {
        "reading data, recalibrating, comparing losses": lambda v: bnfix.recalibrate(
            model, (x, y), verbose=v
        ),
        "recalibrating": lambda v: bnfix.recalibrate(model, x, method="streaming", verbose=v),
        "checking": lambda v: bnfix.check(model, x, verbose=v),
        "reading data, recalibrating": lambda v: bnfix.diagnose(model, x, verbose=v),
        "proving what fold": lambda v: bnfix.fold(model, verbose=v),
        "proving what to_group_norm": lambda v: bnfix.to_group_norm(model, x, verbose=v),
        "opening model.keras": lambda v: bnfix.load(kept, verbose=v),
        "writing other.keras": lambda v: bnfix.save(
            again, folder / "other.keras", overwrite=True, verbose=v
        ),
        "opening model.keras, reading data, checking, recalibrating, writing repaired.keras, "
        "proving repaired.keras": lambda v: bnfix.repair_file(
            kept, repaired, ds=(x, y), overwrite=True, verbose=v
        ),
        "predicting": lambda v: wide.predict(x, verbose=v),
    }


@pytest.mark.filterwarnings("ignore::bnfix.BnfixWarning")
def test_all_that_runs_long_says_so_and_is_quiet_elsewhere(K, tmp_path, capfd):
    for wanted, job in jobs(trained(K), tmp_path).items():
        capfd.readouterr()
        job("auto")
        assert capfd.readouterr().err == "", f"{wanted}: not on a terminal"
        job(1)
        told = capfd.readouterr()
        assert [word for word in wanted.split(", ") if word not in told.err] == []
        assert told.out == ""


class Notebook(types.ModuleType):
    """What `IPython.display` does, with all that was shown, in order."""

    def __init__(self):
        super().__init__("IPython.display")
        self.shown = []

    def HTML(self, text):
        return text

    def display(self, shown, *, display_id):
        assert display_id is True
        self.update(shown)
        return self

    def update(self, shown):
        self.shown.append(shown)


@pytest.fixture
def notebook(monkeypatch):
    monkeypatch.setattr(rich.console, "_is_jupyter", lambda: True)
    found = Notebook()
    monkeypatch.setitem(sys.modules, "IPython", types.ModuleType("IPython"))
    monkeypatch.setitem(sys.modules, "IPython.display", found)
    monkeypatch.setattr("bnfix.progress._PAUSE", 0)
    return found


def test_a_notebook_shows_how_far_it_is_and_nothing_in_the_end(notebook, capfd):
    with progress(4, "folding <b>", "auto") as advance:
        advance()
        advance(2)
    first, second, third, last = notebook.shown
    assert "folding &lt;b&gt; <progress" in first
    assert 'max="4" value="1"' in second
    assert "3 / 4" in third
    assert last == ""
    assert capfd.readouterr() == ("", "")


def test_a_notebook_is_cleared_after_an_error_and_is_quiet_on_request(notebook):
    def stopped():
        yield from (0, 1)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(counted(stopped(), "reading", "auto"))
    assert "2, 0 s" in notebook.shown[-2]
    notebook.shown.clear()
    assert list(counted(range(3), "reading", 0)) == [0, 1, 2]
    assert notebook.shown == []


def test_steps_come_on_while_they_are_counted():
    assert list(counted(iter("abc"), "reading", 0)) == ["a", "b", "c"]


@pytest.mark.long
def test_a_kernel_shows_it():
    nbclient = pytest.importorskip("nbclient", reason="nbclient is not installed: bnfix[docs]")
    pytest.importorskip("ipykernel", reason="ipykernel is not installed: bnfix[docs]")
    import nbformat

    code = "from bnfix.progress import progress\nwith progress(3, 'folding', 'auto'): 1/0"
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)])
    nbclient.NotebookClient(book, kernel_name="python3", allow_errors=True).execute()
    shown = [out for out in book.cells[0].outputs if out["output_type"] == "display_data"]
    assert [out["data"]["text/html"] for out in shown] == [""]
