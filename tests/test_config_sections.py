import dataclasses
from typing import Literal

import pytest

from electra_keras.config_sections import Section, check_range, option
from electra_keras.errors import ConfigError


def test_a_truth_value_is_not_compared_with_a_range():
    @dataclasses.dataclass
    class Switch:
        on: bool = option(True, "a switch", minimum=5)

    check_range(dataclasses.fields(Switch)[0], False)
    with pytest.raises(ConfigError, match="on is 4; it must be at least 5"):
        check_range(dataclasses.fields(Switch)[0], 4)


@dataclasses.dataclass(frozen=True)
class Drink(Section):
    kind: Literal["tea", "coffee"] = option("tea", "what is drunk")
    milk: Literal["oat", "cow"] | None = option(None, "what goes in")


def test_a_field_with_few_possible_values_refuses_others():
    assert Drink("coffee", "oat") == Drink(kind="coffee", milk="oat")
    with pytest.raises(ConfigError, match=r"kind is 'tee'; it must be one of tea, coffee\."):
        Drink("tee")
    with pytest.raises(ConfigError, match="kind is None"):
        Drink(None)
    with pytest.raises(ConfigError, match=r"milk is 'soy'; it must be one of oat, cow\."):
        Drink(milk="soy")
