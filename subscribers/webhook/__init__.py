"""Messages to a web hook: a run has failed, stands still, or is done."""

from .webhook import WebhookCallback

__all__ = ["WebhookCallback"]
