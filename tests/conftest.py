"""What tests share: a place of their own for the key by which a user's runs are known, and figures that are blank."""

import pytest


@pytest.fixture(autouse=True, scope="session")
def state_home(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        yield


@pytest.fixture
def blank(request, monkeypatch):
    """Pages have blank figures, since plotting takes half of a small run; those of a test marked `plotted` do not."""
    from matplotlib.figure import Figure  # by those alone who need it

    if request.node.get_closest_marker("plotted") is None:
        save = Figure.savefig
        monkeypatch.setattr(Figure, "savefig", lambda figure, file, **how: save(Figure(), file, format=how["format"]))
