"""Checkpoints on disk: written whole or not at all, verified before they are read, never pickled.

A folder `checkpoint-<step>` holds model.safetensors, or the model's files as its own library
saves them, the states as state.json and tensors in state/ (torch's distributed checkpoint),
documents such as trainer_state.json, and manifest.json.
"""

from .layout import checkpoint_folder, checkpoint_step, get_last_checkpoint, list_checkpoints
from .manifest import Manifest, verify
from .model_files import load_model_files, save_model_files
from .model_state import load_model_state, model_state
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
    "load_model_files",
    "load_model_state",
    "load_weights",
    "model_state",
    "read_checkpoint",
    "rotate",
    "save_model_files",
    "verify",
    "write_checkpoint",
    "write_weights",
]
