"""Names that a module finds late, and how it says that it has not the one that was asked for."""

from __future__ import annotations

import sys


def no_such_name(module: str, message: str) -> AttributeError | ImportError:
    """The error for a module's `__getattr__` to raise, directly.

    `from module import name` swallows an AttributeError and says only that there is no such name:
    there the message must come in an ImportError.

    Args:
        module: the module's name.
        message: what it has not, and what to do.
    """
    import dis

    asking = sys._getframe(2)
    if dis.opname[asking.f_code.co_code[asking.f_lasti]] == "IMPORT_FROM":
        return ImportError(message, name=module)
    return AttributeError(message)
