"""The names that configs may use."""

import pytest

import common


@pytest.mark.parametrize("package", dir(common))
def test_every_exported_name_exists(package):
    module = getattr(common, package)
    assert [name for name in dir(module) if not hasattr(module, name)] == []
