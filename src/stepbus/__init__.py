"""Training callbacks on an asynchronous event bus."""

__version__ = "0.1.0"
