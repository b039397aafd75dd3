import pathlib
import tomllib

import pytest

import electra_keras


def test_version_is_the_packages():
    project = tomllib.loads((pathlib.Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert electra_keras.__version__ == project["version"]


def test_every_public_name_is_found_and_listed():
    for name in electra_keras.__all__:
        assert getattr(electra_keras, name) is not None
        assert name in dir(electra_keras)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'detecter'"):
        _ = electra_keras.detecter
