"""The built-in corpus: the prose of the docstrings of the Python standard library and of the packages the configuration names.

It needs no download, and installing further packages does not change it. Sources are parsed and never imported.
"""

import dataclasses
import functools
import importlib.metadata
import importlib.util
import itertools
import os
import pathlib
import platform
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from typing import Any

from electra_keras.data.documents import Document
from electra_keras.data.prose import docstring_paragraphs
from electra_keras.data.readers import unreadable
from electra_keras.data.workers import parallel_map
from electra_keras.errors import CorpusError
from electra_keras.files import sha256_of_json

STANDARD_LIBRARY = "the standard library"
# Tests document themselves in fragments.
SKIPPED_FOLDERS = frozenset(["__pycache__", "site-packages", "test", "tests", "testing", "idle_test"])
MIN_DOCUMENT_CHARACTERS = 200
FILES_PER_TASK = 32
# Raise it when the extraction changes, so that prepared data is made again.
EXTRACTION_VERSION = 1


@dataclasses.dataclass(frozen=True)
class SourceFile:
    """A Python source of the built-in corpus: the package, the path within it, and the path on this machine."""

    package: str
    name: str
    path: str


class BuiltinSource:
    """Documents from docstrings, one a source file, paragraphs that occurred before left out.

    Args:
        packages: import names; each must be installed.
        modules: top-level modules of the standard library; those that this Python was built without are skipped.

    Raises:
        CorpusError: a package is not installed.
    """

    def __init__(self, packages: Iterable[str], modules: Iterable[str] = sys.stdlib_module_names):
        self.packages = sorted(set(packages))
        self._files = [*_standard_library_files(modules), *itertools.chain.from_iterable(map(_package_files, self.packages))]
        self._documents: list[Document] | None = None

    def describe(self) -> dict[str, Any]:
        """Returns what decides the text: versions, and a hash over the names and sizes of all sources."""
        sizes = [[file.package, file.name, os.path.getsize(file.path)] for file in self._files]
        return {
            "kind": "builtin",
            "extraction_version": EXTRACTION_VERSION,
            "python": platform.python_version(),
            "packages": {package: _version(package) for package in self.packages},
            "source_files": len(sizes),
            "source_files_sha256": sha256_of_json(sizes),
        }

    def documents(self) -> Iterator[Document]:
        """Yields the documents, the standard library's first, then the packages' by name, each by path."""
        if self._documents is not None:
            yield from self._documents
            return
        # Handed on at once, so that progress can be seen, and kept: about 13 MB, which take all cores some twenty seconds to extract.
        extracted = []
        for document in self._extract():
            extracted.append(document)
            yield document
        self._documents = extracted

    def _extract(self) -> Iterator[Document]:
        tasks = (self._files[start : start + FILES_PER_TASK] for start in range(0, len(self._files), FILES_PER_TASK))
        seen = set()
        for file, paragraphs in itertools.chain.from_iterable(parallel_map(extract_paragraphs, tasks)):
            new = [paragraph for paragraph in dict.fromkeys(paragraphs) if paragraph not in seen]
            text = "\n".join(new)
            if len(text) >= MIN_DOCUMENT_CHARACTERS:
                seen.update(new)
                yield Document(text, f"{file.package}/{file.name}")


def extract_paragraphs(files: list[SourceFile]) -> list[tuple[SourceFile, list[str]]]:
    """Returns the prose paragraphs of each file; what a worker does.

    Raises:
        CorpusError: a file cannot be read.
    """
    return [(file, docstring_paragraphs(_source(file))) for file in files]


def _source(file: SourceFile) -> bytes:
    try:
        return pathlib.Path(file.path).read_bytes()
    except OSError as error:
        raise unreadable(file.path, error) from error


def _standard_library_files(modules: Iterable[str]) -> list[SourceFile]:
    # By location and not by import machinery: a module of the same name elsewhere must change nothing.
    root = pathlib.Path(sysconfig.get_path("stdlib"))
    files = []
    for module in sorted(modules):
        if (root / module).is_dir():
            files.extend(_folder_files(STANDARD_LIBRARY, root / module, f"{module}/"))
        elif (root / f"{module}.py").is_file():
            files.append(SourceFile(STANDARD_LIBRARY, f"{module}.py", os.fspath(root / f"{module}.py")))
    return files


def _package_files(package: str) -> list[SourceFile]:
    if not package.isidentifier():
        raise CorpusError(f"corpus.builtin_packages: {package!r} is no import name. Give top-level names such as numpy.")
    try:
        spec = importlib.util.find_spec(package)
    except ValueError:
        # A module that was put into sys.modules by hand has no spec.
        spec = None
    if spec is None or not (spec.submodule_search_locations or spec.origin):
        raise CorpusError(f"corpus.builtin_packages names {package}, which is not installed. Install it, or take it out of the list.")
    if spec.submodule_search_locations:
        return _folder_files(package, pathlib.Path(spec.submodule_search_locations[0]), "")
    return [SourceFile(package, os.path.basename(spec.origin), spec.origin)] if spec.origin.endswith(".py") else []


def _folder_files(package: str, folder: pathlib.Path, prefix: str) -> list[SourceFile]:
    files = []
    for root, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if name not in SKIPPED_FOLDERS and not name.startswith(".")]
        for name in names:
            path = pathlib.Path(root, name)
            if name.endswith(".py") and path.is_file():
                files.append(SourceFile(package, prefix + path.relative_to(folder).as_posix(), os.fspath(path)))
    return sorted(files, key=lambda file: file.name)


def _version(package: str) -> str | None:
    distributions = _distributions().get(package)
    return importlib.metadata.version(sorted(distributions)[0]) if distributions else None


@functools.cache
def _distributions() -> dict[str, list[str]]:
    return dict(importlib.metadata.packages_distributions())
