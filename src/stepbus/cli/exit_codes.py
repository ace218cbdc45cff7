"""What the command line tells its caller."""

FINISHED = 0
FAILED = 1
BAD_INPUT = 2
UNDELIVERED = 3
"""Trained, but some subscriber did not get what it should have had."""
INTERRUPTED = 130
"""Stopped by Ctrl-C, and saved."""
TERMINATED = 143
"""Stopped by SIGTERM, and saved."""
