"""What becomes of the names that a script takes from transformers."""

from __future__ import annotations

import ast

from ... import __all__ as _public
from ...schemas.errors import nearest
from .bindings import HOME, Bindings
from .findings import Findings
from .moved_names import MOVES, REFUSED_NAMES, is_foreign, why_refused

MOVE = "from stepbus"
OURS = "from stepbus already"
STAY = "stays in transformers"
OWN_MODULES = frozenset(
    {"bus", "cli", "engine", "integrations", "schemas", "subscribers", "testing"}
)


def check_imports(tree: ast.AST, names: Bindings, found: Findings) -> None:
    """Adds what becomes of each name that is imported, or used as `transformers.Name`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            _check_from(node, found)
        elif isinstance(node, ast.Attribute):
            _check_dotted(node, names, found)
        elif isinstance(node, ast.Call):
            _check_getattr(node, names, found)
        elif isinstance(node, ast.Name) and names.stars:
            _check_starred(node, names, found)


def _check_from(node: ast.ImportFrom, found: Findings) -> None:
    module = node.module or ""
    package = module.partition(".")[0]
    for alias in node.names:
        line = alias.lineno
        if is_foreign(f"{module}.{alias.name}"):
            _refuse(line, alias.name, package, found)
        elif module == "stepbus":
            _check_ours(line, alias.name, found)
        elif package == "transformers" and alias.name != "*":
            _judge(line, alias.name, found)


def _judge(line: int, name: str, found: Findings) -> None:
    if name in MOVES:
        found.works(line, "import", name, MOVE)
    elif name in REFUSED_NAMES:
        _refuse(line, name, "transformers", found)
    else:
        found.works(line, "import", name, STAY)


def _refuse(line: int, name: str, package: str, found: Findings) -> None:
    found.refused(line, "import", name, why_refused(name, package) or "")


def _check_ours(line: int, name: str, found: Findings) -> None:
    if name in REFUSED_NAMES:
        _refuse(line, name, "transformers", found)
    elif name in MOVES or name in _public or name in OWN_MODULES or name == "*":
        found.works(line, "import", name, OURS)
    else:
        text = f"stepbus has no {name}: {nearest(name, MOVES | set(_public))}"
        found.unknown(line, "import", name, text if "did you mean" in text else _no_such(name))


def _no_such(name: str) -> str:
    return f"stepbus has no {name}: models, tokenizers and collators stay in transformers"


def _check_dotted(node: ast.Attribute, names: Bindings, found: Findings) -> None:
    """`transformers.Trainer`, also through a module that was imported by another name."""
    origin = names.origin(node)
    if origin and is_foreign(origin):
        _refuse(node.lineno, node.attr, origin.partition(".")[0], found)
    elif origin and origin.startswith("transformers.") and node.attr in MOVES | set(REFUSED_NAMES):
        _judge(node.lineno, node.attr, found)


def _check_starred(node: ast.Name, names: Bindings, found: Findings) -> None:
    if isinstance(node.ctx, ast.Load) and names.origin(node) == f"transformers.{node.id}":
        imported_by_name = any(node.id == alias.asname for s in names.stars for alias in s.names)
        if not imported_by_name:
            _judge(node.lineno, node.id, found)


def _check_getattr(node: ast.Call, names: Bindings, found: Findings) -> None:
    """`getattr(transformers, "Trainer")` reads a name that cannot be rewritten."""
    if not (isinstance(node.func, ast.Name) and node.func.id == "getattr" and len(node.args) > 1):
        return
    origin = names.origin(node.args[0]) or ""
    name = node.args[1].value if isinstance(node.args[1], ast.Constant) else None
    if origin.partition(".")[0] in HOME - {"stepbus"} and name in MOVES:
        found.unknown(node.lineno, "import", str(name), "read by getattr: take it from stepbus")
