import ast
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
RANKS = {"web": 3, "training": 3, "evaluation": 2, "interop": 2, "data": 1, "model": 1, "utils": 0}
ENTRY_POINT = 4
LONGEST_FUNCTION = 40
MOST_ARGUMENTS = 7

Function = ast.FunctionDef | ast.AsyncFunctionDef
Graph = dict[str, set[str]]


@cache
def modules() -> dict[str, ast.Module]:
    found = {}
    for file in sorted((REPOSITORY / "src").rglob("*.py")):
        name = ".".join(file.relative_to(REPOSITORY).with_suffix("").parts).removesuffix(".__init__")
        found[name] = ast.parse(file.read_text(encoding="utf-8"))
    return found


def imported(tree: ast.Module) -> set[str]:
    """Whatever a module imports, at its top or inside a function: modules, and names that might be modules."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are written in full, from src down"
            names |= {f"{node.module}.{alias.name}" for alias in node.names} | {str(node.module)}
    return names


@cache
def graph() -> Graph:
    return {name: {other for other in imported(tree) if other in modules()} for name, tree in modules().items()}


def room(module: str) -> str:
    """The folder of a module; an entry point is a room of its own."""
    return module.split(".")[1] if "." in module else ""


def rank(module: str) -> int:
    return RANKS.get(room(module), ENTRY_POINT)


def edges() -> Iterator[tuple[str, str]]:
    for module, others in graph().items():
        yield from ((module, other) for other in others if other != "src")


def cycle(edges_of: Graph) -> list[str]:
    """Returns some cycle of a graph, or an empty list."""
    remaining = {node: set(others) for node, others in edges_of.items()}
    while ready := [node for node, others in remaining.items() if not others & remaining.keys()]:
        for node in ready:
            del remaining[node]
    path: list[str] = []
    while remaining and (not path or path[-1] not in path[:-1]):
        path.append(min(remaining[path[-1]] & remaining.keys()) if path else min(remaining))
    return path[path.index(path[-1]) :] if path else []


def third_party(module: str) -> set[str]:
    packages = {name.partition(".")[0] for name in imported(modules()[module])}
    return packages - set(sys.stdlib_module_names) - {"src"}


def reachable(start: str) -> set[str]:
    found, waiting = set(), [start]
    while waiting:
        module = waiting.pop()
        if module not in found:
            found.add(module)
            # Importing a module runs the packages it lies in.
            parents = {module.rsplit(".", depth)[0] for depth in range(1, module.count(".") + 1)}
            waiting += graph()[module] | parents
    return found


def functions(tree: ast.Module) -> Iterator[Function]:
    yield from (node for node in ast.walk(tree) if isinstance(node, Function))


def public(tree: ast.Module | ast.ClassDef, name: str) -> Iterator[tuple[str, Function | ast.ClassDef]]:
    for node in tree.body:
        if isinstance(node, Function | ast.ClassDef) and not node.name.startswith("_"):
            yield f"{name}.{node.name}", node
            if isinstance(node, ast.ClassDef):
                yield from public(node, f"{name}.{node.name}")


def lines_without_docstring(function: Function) -> int:
    first = function.body[0]
    documented = ast.get_docstring(function) is not None
    docstring = (first.end_lineno or 0) - first.lineno + 1 if documented else 0
    return (function.end_lineno or 0) - function.lineno + 1 - docstring


def arguments(function: Function) -> list[str]:
    spec = function.args
    named = [argument.arg for argument in (*spec.posonlyargs, *spec.args, *spec.kwonlyargs)]
    return [name for name in named if name not in ("self", "cls")]


def test_every_room_has_a_rank() -> None:
    folders = {path.parent.name for path in (REPOSITORY / "src").glob("*/__init__.py")}
    assert folders == set(RANKS)
    assert len(modules()) > 30 and {"src.train", "src.inference", "src.utils.config"} <= set(modules())


def test_imports_point_downwards_or_stay_within_a_rank() -> None:
    upwards = [f"{module} -> {other}" for module, other in edges() if rank(other) > rank(module)]
    assert not upwards, "\n".join(upwards)


def test_data_and_model_never_import_each_other() -> None:
    across = [f"{module} -> {other}" for module, other in edges() if {room(module), room(other)} == {"data", "model"}]
    assert not across, "\n".join(across)


def test_no_entry_point_imports_another() -> None:
    across = [f"{module} -> {other}" for module, other in edges() if rank(other) == ENTRY_POINT]
    assert not across, "\n".join(across)


def test_modules_do_not_import_each_other_in_a_circle() -> None:
    circle = cycle(graph())
    assert not circle, " -> ".join(circle)


def test_rooms_do_not_import_each_other_in_a_circle() -> None:
    rooms: Graph = {name: set() for name in RANKS}
    for module, other in edges():
        if room(module) != room(other):
            rooms.setdefault(room(module), set()).add(room(other))
    circle = cycle(rooms)
    assert not circle, " -> ".join(circle)


def test_inference_reaches_neither_training_nor_wandb() -> None:
    found = reachable("src.inference")
    assert "src.evaluation.predictor" in found and "src.model.bert" in found
    offenders = [module for module in found if room(module) == "training" or "wandb" in third_party(module)]
    assert not offenders, "\n".join(offenders)


def test_config_needs_the_standard_library_only() -> None:
    assert {name for module in reachable("src.utils.config") for name in third_party(module)} == set()


def test_every_module_that_holds_code_says_what_it_is_for() -> None:
    offenders = [name for name, tree in modules().items() if tree.body and not ast.get_docstring(tree)]
    assert not offenders, "\n".join(offenders)


def test_every_public_class_and_function_has_a_docstring() -> None:
    found = [entry for name, tree in modules().items() for entry in public(tree, name)]
    assert len(found) > 100
    offenders = [name for name, node in found if not ast.get_docstring(node)]
    assert not offenders, "\n".join(offenders)


def test_no_function_is_longer_than_forty_lines() -> None:
    offenders = [
        f"{name}.{function.name}: {lines_without_docstring(function)} lines"
        for name, tree in modules().items()
        for function in functions(tree)
        if lines_without_docstring(function) > LONGEST_FUNCTION
    ]
    assert not offenders, "\n".join(offenders)


def test_no_function_takes_more_than_seven_arguments() -> None:
    offenders = [
        f"{name}.{function.name}, line {function.lineno}: {', '.join(arguments(function))}"
        for name, tree in modules().items()
        for function in functions(tree)
        if len(arguments(function)) > MOST_ARGUMENTS
    ]
    assert not offenders, "\n".join(offenders)
