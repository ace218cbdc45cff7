"""`save_model`, for the Trainer to inherit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import nn

from ...schemas import TrainingArguments
from ..checkpoint.model_files import save_model_files
from ..saving import ARGUMENTS


class ModelSaving:
    """Writes the model the way its own library does, so that `from_pretrained` reads it back."""

    args: TrainingArguments
    model: nn.Module
    processing_class: Any
    data_collator: Any
    push_to_hub: Callable[..., Any]

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Writes weights, configuration and processing class; checkpoints are written with it.

        With `push_to_hub=True` a call of one's own pushes to the Hub too.

        Args:
            output_dir: the folder, made if need be; that of the arguments by default.
            _internal_call: True where a checkpoint is written.

        Raises:
            OSError: the folder cannot be written.
        """
        self._save(output_dir if output_dir is not None else self.args.output_dir)
        if self.args.push_to_hub and not _internal_call:
            self.push_to_hub(commit_message="Model save", revision=self.args.hub_revision)

    def _save(
        self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None
    ) -> None:
        """As `save_model`, with other weights where `state_dict` gives them."""
        folder = Path(output_dir if output_dir is not None else self.args.output_dir)
        folder.mkdir(parents=True, exist_ok=True)
        save_model_files(
            self.model,
            folder,
            processing_class=self.processing_class,
            data_collator=self.data_collator,
            state_dict=state_dict,
        )
        text = self.args.to_json_string() + "\n"
        (folder / ARGUMENTS).write_text(text, encoding="utf-8")
