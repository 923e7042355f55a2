"""What all tests share: a place of their own for the key by which a user's runs are known."""

import pytest


@pytest.fixture(autouse=True, scope="session")
def state_home(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        yield
