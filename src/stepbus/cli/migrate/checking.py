"""Everything that is found in one file."""

from __future__ import annotations

from .bindings import Bindings
from .calls import CallChecker
from .findings import Finding, Findings
from .imported import STAY, check_imports
from .sources import Source
from .subclasses import check_subclasses
from .surroundings import check_surroundings
from .uses import UseChecker


def check(source: Source) -> list[Finding]:
    """What of a script works, differs, is refused or not known; nothing where it trains nothing."""
    tree = source.tree
    names, found = Bindings(tree), Findings()
    check_imports(tree, names, found)
    if all(finding.text == STAY for finding in found.sorted()):
        return []
    CallChecker(tree, names, found).check()
    check_subclasses(names, found)
    UseChecker(tree, names, found).check()
    check_surroundings(tree, source.magics, names, found)
    return found.sorted()
