"""Which module of a package names which other, read from the source."""

from __future__ import annotations

import ast
import re
from collections.abc import Collection, Iterator, Sequence
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

DOTTED = re.compile(r"\w+(\.\w+)+")


class Imports:
    """The modules of one package and the names by which they reach each other.

    An import counts wherever it stands, in a function too, as an `import_module("...")` or as any
    other string that names a module. What is imported for type checking alone does not count.

    Args:
        root: the folder of the package.
        data: pairs of a module and a text in it that is data and only looks like a module's name.
    """

    def __init__(self, root: Path, data: Collection[tuple[str, str]] = ()) -> None:
        self.package = root.name
        self._data = data
        self.files = {self._name(root, path): path for path in sorted(root.rglob("*.py"))}

    @staticmethod
    def _name(root: Path, path: Path) -> str:
        parts = path.relative_to(root.parent).with_suffix("").parts
        return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)

    def of(self, name: str) -> set[str]:
        """The other modules of the package that a module names."""
        path = self.files[name]
        tree = ast.parse(path.read_text())
        package = name if path.name == "__init__.py" else name.rpartition(".")[0]
        targets = {target for target in _names(tree, package) if (name, target) not in self._data}
        return {other for target in targets if (other := self.module_of(target))} - {
            name,
            self.package,
        }

    def module_of(self, target: str) -> str | None:
        """The module that a dotted name leads to; None if it leads to none of this package."""
        while target:
            if target in self.files:
                return target
            target = target.rpartition(".")[0]
        return None

    def upward(self, floors: Sequence[str]) -> Iterator[str]:
        """What names a module on a higher floor.

        Args:
            floors: the modules and packages right below the root, from the top to the bottom.
        """
        level = {f"{self.package}.{name}": number for number, name in enumerate(floors)}
        for name in self.files:
            for other in sorted(self.of(name)):
                here, there = (level.get(self.floor(each)) for each in (name, other))
                if here is not None and there is not None and there < here:
                    yield f"{name} names {other}, which stands above it"

    def floor(self, name: str) -> str:
        """The module or package right below the root that a module stands in."""
        return ".".join(name.split(".")[:2])

    def circle(self) -> list[str]:
        """Modules that name each other in a circle; empty if none do."""
        graph = {name: self.of(name) for name in self.files}
        try:
            TopologicalSorter(graph).prepare()
        except CycleError as error:
            return list(error.args[1])
        return []


def _names(tree: ast.AST, package: str) -> Iterator[str]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            for otherwise in node.orelse:
                yield from _names(otherwise, package)
            continue
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            continue  # a docstring
        yield from _named_by(node, package)
        yield from _names(node, package)


def _named_by(node: ast.AST, package: str) -> list[str]:
    match node:
        case ast.Import():
            return [alias.name for alias in node.names]
        case ast.ImportFrom(module=module, level=level):
            above = package.split(".")
            parts = above[: len(above) + 1 - level] if level else []
            parts += [module] if module else []
            return [".".join([*parts, alias.name]) for alias in node.names]
        case ast.Constant(value=str(text)) if DOTTED.fullmatch(text):
            return [text]
    return []
