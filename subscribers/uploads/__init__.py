"""What leaves the machine: checkpoints to a bucket or to the Hub."""

from .hub import HubCallback
from .reading import download_checkpoint, latest_upload, upload_checkpoint
from .upload import UploadCallback

__all__ = [
    "HubCallback",
    "UploadCallback",
    "download_checkpoint",
    "latest_upload",
    "upload_checkpoint",
]
