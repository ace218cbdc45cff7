"""Scalars that are on a device, on their way to the host without anybody waiting for them."""
