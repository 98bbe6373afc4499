"""A disk that refuses what a run writes is no reason to lose the run: it goes on, and says so at its end."""

from collections.abc import Callable
from pathlib import Path

from src.utils.distributed import largest
from src.utils.errors import StorageError, notice


class Perseverance:
    """Attempts to write, and remembers what failed.

    As long as the model of an epoch is owed to the run's folder, no checkpoint may say that this epoch is done: a run
    resumed from the one before makes and delivers that model again.
    """

    def __init__(self) -> None:
        self.error: StorageError | None = None
        self.told = set[str]()
        self.owes_delivery = False

    def attempt(self, write: Callable[[], None]) -> bool:
        """Writes, or tells in one line why not.

        Args:
            write: may raise `StorageError` in the first process, which is the one that writes.

        Returns:
            Whether it was written.
        """
        try:
            write()
            return True
        except StorageError as error:
            if str(error) not in self.told:  # the same again every 50 steps helps nobody
                notice(f"warning: {error}; training goes on")
            self.told.add(str(error))
            self.error = error
            return False

    def attempt_delivery(self, deliver: Callable[[], None]) -> None:
        """Delivers a model, or remembers in every process that it is owed."""
        self.owes_delivery = largest(float(not self.attempt(deliver))) > 0

    def attempt_checkpoint(self, save: Callable[[], None]) -> bool:
        """Saves a checkpoint unless a delivery is owed; returns whether it was saved."""
        return not self.owes_delivery and self.attempt(save)

    @property
    def reason(self) -> str:
        """Why something is not written; only the first process knows."""
        return str(self.error or "the first process could not write")

    def admit(self, path: Path) -> None:
        """Ends a run that has come to its end.

        Args:
            path: the run's folder.

        Raises:
            StorageError: something could not be written on the way.
        """
        if self.owes_delivery:
            raise StorageError(
                f"{self.reason}; training went on to its end, but its model is not delivered: make room, then go on "
                f"with --resume {path}"
            )
        if self.error is not None:
            raise StorageError(f"{self.error}; training went on to its end and delivered its model")

    def admit_unsaved(self, step: int, path: Path) -> None:
        """Ends a run that stops before its end without having saved this step.

        Raises:
            StorageError: always.
        """
        raise StorageError(
            f"{self.reason}; stopped in step {step}, which is not saved: make room, then go on with --resume {path}"
        )
