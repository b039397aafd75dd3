import importlib.metadata
import itertools
import sys

import pytest

from electra_keras.config import BUILTIN_PACKAGES
from electra_keras.data.builtin import BuiltinSource
from electra_keras.errors import CorpusError

PARAGRAPHS = [
    f"The {first} {second} of this package is described in one long sentence that no other package on this machine has."
    for first, second in itertools.product(["first", "second", "third"], ["module", "function"])
]


def write_package(folder, name, files):
    for path, paragraphs in files.items():
        file = folder / name / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text('"""' + "\n\n".join(paragraphs) + '"""\nraise RuntimeError("sources are parsed and never imported")\n')


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package on the path whose modules share paragraphs."""
    files = {
        "__init__.py": PARAGRAPHS[:3],
        "b.py": [*PARAGRAPHS[2:5], PARAGRAPHS[4]],
        "a/c.py": PARAGRAPHS[:2],
        "short.py": PARAGRAPHS[5:],
        "tests/test_b.py": [f"{paragraph} In tests." for paragraph in PARAGRAPHS],
    }
    write_package(tmp_path / "site", "electra_example", files)
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    return "electra_example"


def test_a_source_file_is_a_document_without_paragraphs_seen_before(package):
    documents = list(BuiltinSource([package], modules=[]).documents())
    # a/c.py has nothing new; what is left of short.py is too little for a document.
    assert [(document.source, document.text.split("\n")) for document in documents] == [
        ("electra_example/__init__.py", PARAGRAPHS[:3]),
        ("electra_example/b.py", PARAGRAPHS[3:5]),
    ]


def test_packages_are_not_imported(package):
    assert list(BuiltinSource([package], modules=[]).documents())
    assert package not in sys.modules


def test_the_standard_library_comes_from_its_own_folder(tmp_path, monkeypatch):
    before = BuiltinSource([], modules=["textwrap", "graphlib"])
    write_package(tmp_path / "site", "graphlib", {"__init__.py": PARAGRAPHS})
    write_package(tmp_path / "site", "another_package", {"__init__.py": PARAGRAPHS})
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    after = BuiltinSource([], modules=["graphlib", "textwrap"])
    assert after.describe() == before.describe()
    documents = list(after.documents())
    assert documents == list(before.documents())
    assert [document.source.rpartition("/")[2] for document in documents] == ["graphlib.py", "textwrap.py"]


def test_documents_can_be_read_again_and_do_not_depend_on_the_order_of_the_names(package):
    source = BuiltinSource([package, "jsonargparse"], modules=[])
    documents = list(source.documents())
    assert documents == list(source.documents()) == list(BuiltinSource(["jsonargparse", package], modules=[]).documents())
    assert documents[0].source.startswith(package)
    assert documents[-1].source.startswith("jsonargparse/")


def test_documents_come_while_others_are_still_to_be_extracted(package, monkeypatch):
    asked = []

    def one_by_one(function, tasks):
        for task in tasks:
            asked.extend(file.name for file in task)
            yield function(task)

    monkeypatch.setattr("electra_keras.data.builtin.parallel_map", one_by_one)
    monkeypatch.setattr("electra_keras.data.builtin.FILES_PER_TASK", 1)
    source = BuiltinSource([package], modules=[])
    first = next(source.documents())
    assert asked == ["__init__.py"]
    documents = list(source.documents())
    assert documents[0] == first
    assert len(documents) == 2, "a reading that was left early is not taken for the whole"


def test_a_source_that_cannot_be_read_is_named(package, tmp_path):
    source = BuiltinSource([package], modules=[])
    (tmp_path / "site" / package / "b.py").unlink()
    with pytest.raises(CorpusError, match=r"Cannot read .*electra_example/b\.py: No such file or directory"):
        list(source.documents())


def test_versions_and_changed_sources_are_in_the_description(package, tmp_path):
    before = BuiltinSource([package, "numpy"], modules=[]).describe()
    import numpy

    assert before["packages"] == {package: None, "numpy": numpy.__version__}
    (tmp_path / "site" / package / "b.py").write_text('"""Changed."""')
    after = BuiltinSource([package, "numpy"], modules=[]).describe()
    assert after.pop("source_files_sha256") != before.pop("source_files_sha256")
    assert after == before


@pytest.mark.parametrize("name, message", [("no_such_package", "no_such_package, which is not installed"), ("../keras", "no import name")])
def test_a_package_that_is_not_there_is_one_clear_error(name, message):
    with pytest.raises(CorpusError, match=message):
        BuiltinSource(["numpy", name], modules=[])


def test_the_default_packages_are_the_demos_own(request):
    requirements = (request.config.rootpath / "requirements.txt").read_text(encoding="utf-8")
    pinned = {line.partition("==")[0] for line in requirements.splitlines() if "==" in line}
    distributions = importlib.metadata.packages_distributions()
    # The same distribution is spelled with a dash or an underscore.
    sources = {package: {name.replace("_", "-") for name in distributions[package]} for package in BUILTIN_PACKAGES}
    assert [package for package in BUILTIN_PACKAGES if not pinned & sources[package]] == []
    assert not {"torch", "transformers"} & set(BUILTIN_PACKAGES)
    assert sorted(BUILTIN_PACKAGES) == BUILTIN_PACKAGES
