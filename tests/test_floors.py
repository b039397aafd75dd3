"""The house's floors: imports go strictly down, inside a room they have no circle, and few files may know a backend."""

import ast
import pathlib

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "electra_keras"
FLOORS = {
    "errors": -1,
    "files": -0.5,
    "arrays": 0,
    "yaml_reading": -0.5,
    "config_sections": -0.5,
    "config": 0,
    "backend": 0,
    "process": 0.5,
    "huge_pages": 0,
    "config_loading": 0.5,
    "data": 1,
    "modeling": 1,
    "metrics": 1,
    "objectives": 2,
    "artifacts": 3,
    "training": 4,
    "interop": 4,
    "detector": 5,
    "evaluation": 5,
    "tasks": 5,
    "study": 6,
    "segments": 5.5,
    "standard_output": 6,
    "terminal": 6,
    "text_lines": 6,
    "cli_exchange": 6,
    "cli_messages": 6,
    "cli": 7,
    "__main__": 8,
    "__init__": 9,
}


def imports_of(path):
    """Yields the package's modules that a file imports anywhere, as dotted names."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.startswith("electra_keras"))
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("electra_keras"):
            inner = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from (name if module_path(name) else node.module for name in inner)


def module_path(name):
    base = ROOT / pathlib.Path(*name.split("."))
    return next((path for path in (base.with_suffix(".py"), base / "__init__.py") if path.is_file()), None)


def modules():
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        yield ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 2 else parts), path


def room(name):
    parts = name.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


def upward_edges(graph):
    return [
        f"{name} (floor {FLOORS[room(name)]}) imports {target} (floor {FLOORS[room(target)]})"
        for name, targets in graph.items()
        for target in targets
        if room(name) != room(target) and FLOORS[room(target)] >= FLOORS[room(name)] and room(target) != "__init__"
    ]


def circle(graph):
    """Returns a circle of imports, or None."""
    done, path = set(), []

    def visit(name):
        if name in path:
            return [*path[path.index(name) :], name]
        if name in done or name not in graph:
            return None
        path.append(name)
        found = next((hit for hit in map(visit, graph[name]) if hit), None)
        path.pop()
        done.add(name)
        return found

    return next((hit for hit in map(visit, graph) if hit), None)


@pytest.fixture(scope="module")
def graph():
    return {name: sorted(set(imports_of(path)) - {name}) for name, path in modules()}


def test_every_room_has_a_floor(graph):
    assert {room(name) for name in graph} <= FLOORS.keys()


def test_imports_go_down(graph):
    assert upward_edges(graph) == []


def test_imports_have_no_circle(graph):
    assert circle({name: [target for target in targets if target != "electra_keras"] for name, targets in graph.items()}) is None


def test_an_upward_edge_and_a_circle_would_be_found():
    assert upward_edges({"electra_keras.config": ["electra_keras.cli"]})
    assert upward_edges({"electra_keras.modeling.models": ["electra_keras.data.masking"]})
    assert circle({"a": ["b"], "b": ["c"], "c": ["a"]}) == ["a", "b", "c", "a"]


def test_data_and_metrics_know_no_keras():
    for name, path in modules():
        if room(name) in ("data", "metrics", "errors", "files", "arrays", "config_sections", "config", "config_loading", "artifacts"):
            tree = ast.parse(path.read_text(encoding="utf-8"))
            names = {alias.name.split(".")[0] for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
            names |= {node.module.split(".")[0] for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module}
            assert not names & {"keras", "keras_hub", "tensorflow", "torch", "jax"}, name


def test_backends_are_asked_for_in_few_places():
    allowed = ("training/steps/", "modeling/kernels/", "training/distribution.py", "interop/", "backend.py")
    asking = [
        path.relative_to(PACKAGE).as_posix() for _, path in modules() if "keras.backend.backend()" in path.read_text(encoding="utf-8")
    ]
    branching = [place for place in asking if not place.startswith(allowed)]
    # run.py only records the backend's name in config.yaml.
    assert branching == ["training/run.py"]


def test_the_app_enters_through_its_services_alone():
    for path in sorted((ROOT / "app").rglob("*.py")):
        if path.name != "services.py":
            assert not list(imports_of(path)), path


def test_files_and_functions_stay_readable():
    for name, path in modules():
        text = path.read_text(encoding="utf-8")
        assert text.count("\n") <= 320, f"{name} has {text.count(chr(10))} lines"
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef):
                assert node.end_lineno - node.lineno <= 60, f"{name}.{node.name}"
