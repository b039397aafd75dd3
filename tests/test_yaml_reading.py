import pytest

from electra_keras.errors import ConfigError
from electra_keras.yaml_reading import read_yaml


@pytest.fixture
def path(tmp_path):
    return tmp_path / "config.yaml"


def test_a_mapping_is_read_as_plain_data(path):
    path.write_bytes("\ufeffa: {b: [1, é]}\n".encode())
    assert read_yaml(path) == {"a": {"b": [1, "é"]}}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"# only a comment\n", "is empty"),
        (b"- a\n- b\n", "holds a list, not sections"),
        (b"text", "holds a str, not sections"),
        (b"\xff\xfe\x00\x01", "not UTF-8 text"),
        (b"a: \x00", "special characters are not allowed"),
        (b"a: 1\nb: [1, 2\n", ", line 3: not valid YAML"),
        (b"a: 1\n\tb: 2\n", ", line 2: not valid YAML"),
        (b"a: 1\nb: 2\na: 3\n", ", line 3: not valid YAML: the key 'a' stands twice"),
        (b"s:\n  a: 1\n  a: 2\n", ", line 3: not valid YAML: the key 'a' stands twice"),
        (b"a: 2020-13-45", "month must be in 1..12"),
        (b"a: !!python/object/apply:os.getcwd []", "could not determine a constructor"),
        (b"? [a]\n: 1\n", "unhashable key"),
        (b"[" * 20_000, "nested too deeply"),
    ],
)
def test_anything_else_is_refused_by_file_and_line(path, content, message):
    path.write_bytes(content)
    with pytest.raises(ConfigError) as error:
        read_yaml(path)
    assert str(error.value).startswith(str(path)) and message in str(error.value)


def test_a_merged_key_may_be_overridden(path):
    path.write_text("base: &base {a: 1, b: 2}\nderived: {<<: *base, a: 3}\n")
    assert read_yaml(path)["derived"] == {"a": 3, "b": 2}


def test_a_missing_file_and_a_folder_are_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"There is no configuration file .*absent.yaml"):
        read_yaml(tmp_path / "absent.yaml")
    with pytest.raises(ConfigError, match="Cannot read the configuration file"):
        read_yaml(tmp_path)
    with pytest.raises(ConfigError, match="Cannot read the configuration file"):
        read_yaml("a\0b")
