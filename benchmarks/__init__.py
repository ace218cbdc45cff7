"""What stepbus costs, measured beside controls. Run `python -m benchmarks`."""
