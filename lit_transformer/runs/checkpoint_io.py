"""How a checkpoint is written and read: whole or not at all."""

from typing import Any

from lightning.fabric.plugins import TorchCheckpointIO

from lit_transformer.checkpoints.format import save_checkpoint
from lit_transformer.errors import UserError
from lit_transformer.files import expanded


class WholeCheckpointIO(TorchCheckpointIO):
    """Lightning's own can leave half a file on a full disk: this one writes a checkpoint whole or not at all.

    Args:
        content: A checkpoint that has been read already. The first `load_checkpoint` returns it.
    """

    def __init__(self, content: dict[str, Any] | None = None) -> None:
        super().__init__()
        self._content = content
        self._failure: UserError | None = None

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        content, self._content = self._content, None  # as large as the run's whole state
        return super().load_checkpoint(path, weights_only=weights_only) if content is None else content

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        try:
            save_checkpoint(checkpoint, expanded(path))
        except UserError as error:
            # Rank 0 alone writes. The others wait at a barrier that it must reach before all of them raise this.
            self._failure = error

    def raise_failure(self) -> None:
        """Raise the UserError of the last save, if there was one."""
        if self._failure is not None:
            raise self._failure
