"""Runs a Python snippet, and checks the values that it names.

The rule: a statement that ends in a comment ``# -> literal`` is an expression, or an assignment of
one, and the expression's value must equal that literal::

    add(4, 5)  # -> 9

Any other comment is for the reader alone. ``await`` may stand outside of functions.
"""

from __future__ import annotations

import ast
import inspect
import io
import linecache
import tokenize
from typing import Any

from asgiref.sync import async_to_sync

from tests.docs.snippets import Snippet

MARK = "# -> "
CHECK = "__expect__"


def parse(snippet: Snippet) -> ast.Module:
    """The snippet's statements.

    Raises:
        SyntaxError: they are none.
    """
    tree: ast.Module = compile(
        snippet.source,
        str(snippet),
        "exec",
        flags=ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT,
        dont_inherit=True,
    )
    return tree


def execute(snippet: Snippet, namespace: dict[str, Any]) -> ast.Module:
    """Run a snippet in a namespace; returns its statements."""
    expected = expectations(snippet.source)
    tree = _Checking(expected).visit(parse(snippet))
    unused = [snippet.line + line for line in expected]
    assert not unused, f"{snippet.page}:{unused[0]}: nothing here has a value that could be checked"
    namespace[CHECK] = expect
    # So that a traceback shows the block: docs/page.md:71:3 is the third line of that at line 71.
    lines = snippet.source.splitlines(keepends=True)
    linecache.cache[str(snippet)] = (len(snippet.source), None, lines, str(snippet))
    code = compile(
        ast.fix_missing_locations(tree),
        str(snippet),
        "exec",
        flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT,
        dont_inherit=True,
    )
    outcome = eval(code, namespace)
    if inspect.iscoroutine(outcome):
        async_to_sync(_finish)(outcome)
    return tree


async def _finish(coroutine: Any) -> None:
    await coroutine


def expectations(source: str) -> dict[int, str]:
    """The literals that ``# ->`` names, by their lines."""
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return {
        token.start[0]: token.string.removeprefix(MARK)
        for token in tokens
        if token.type == tokenize.COMMENT and token.string.startswith(MARK)
    }


def expect(value: Any, literal: Any) -> Any:
    assert value == literal, f"it is {value!r}, and the page says {literal!r}"
    return value


class _Checking(ast.NodeTransformer):
    """Puts a check around each value that is expected, and takes it off the list."""

    def __init__(self, expected: dict[int, str]) -> None:
        self._expected = expected

    def visit_Expr(self, node: ast.Expr) -> ast.Expr:
        return self._check(node)

    def visit_Assign(self, node: ast.Assign) -> ast.Assign:
        return self._check(node)

    def _check(self, node: Any) -> Any:
        literal = self._expected.pop(node.end_lineno, None)
        if literal is not None:
            ast.literal_eval(literal)
            wanted = ast.parse(literal, mode="eval").body
            call = ast.Call(ast.Name(CHECK, ast.Load()), [node.value, wanted], [])
            node.value = ast.copy_location(call, node.value)
        return node
