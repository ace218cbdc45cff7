"""Delivery `process`: handlers in a process that is fed in batches over a pipe.

The trainer's side is `feeder`, `sidecar` and `spawned`, the process's `start`, `host` and `guest`.
What both speak is in `messages`, what may cross in `recipe`. Nothing is imported here: neither side
needs the other's half.
"""
