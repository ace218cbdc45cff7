"""Checkpoints on disk: written whole or not at all, verified before they are read, never pickled.

A folder `checkpoint-<step>` holds model.safetensors, the states as state.json and tensors in
state/ (torch's distributed checkpoint), documents such as trainer_state.json, and manifest.json.
"""

from .layout import checkpoint_folder, checkpoint_step, get_last_checkpoint, list_checkpoints
from .manifest import Manifest, verify
from .reader import Checkpoint, read_checkpoint
from .rotation import Rotation, rotate
from .weights import load_weights, write_weights
from .writer import check_writable, write_checkpoint

__all__ = [
    "Checkpoint",
    "Manifest",
    "Rotation",
    "check_writable",
    "checkpoint_folder",
    "checkpoint_step",
    "get_last_checkpoint",
    "list_checkpoints",
    "load_weights",
    "read_checkpoint",
    "rotate",
    "verify",
    "write_checkpoint",
    "write_weights",
]
