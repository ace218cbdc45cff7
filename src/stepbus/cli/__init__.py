"""The command line `stepbus`."""


def main() -> int:
    """Run one command; return its exit code."""
    raise NotImplementedError
