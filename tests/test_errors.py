import inspect

import pytest

from electra_keras import errors

CLASSES = [value for _, value in inspect.getmembers(errors, inspect.isclass)]


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_every_error_is_one_the_user_can_mend_and_says_when_it_is_raised(kind):
    assert issubclass(kind, errors.UserError)
    assert kind.__doc__
    assert str(kind("what, where, remedy")) == "what, where, remedy"


def test_one_kind_is_not_caught_as_another():
    for kind in CLASSES:
        others = tuple(other for other in CLASSES if other not in (kind, errors.UserError))
        assert kind is errors.UserError or not issubclass(kind, others)


def test_user_errors_are_no_bugs_of_python():
    # `except OSError` or `except ValueError` around our own code must not swallow them.
    assert not any(issubclass(kind, (OSError, ValueError, RuntimeError)) for kind in CLASSES)
