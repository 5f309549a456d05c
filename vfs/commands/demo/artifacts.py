"""Two generated experiments in the layout of the cluster's guide, and the log of a training that is running writing them."""

from __future__ import annotations

import array
import math
import os
import random
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from vfs.commands.demo import checkpoint, events

STEPS_PER_EPOCH = 20
SECONDS_PER_STEP = 1.0
_EPOCHS_BEFORE = 15
"""Epochs that each experiment has behind it when the demo starts."""

_LAYERS = {
    "stem.weight": (64, 3, 7, 7),
    "layer1.weight": (256, 512),
    "layer1.bias": (256,),
    "layer2.weight": (1024, 256),
    "layer2.bias": (1024,),
    "layer3.weight": (1024, 1024),
    "layer3.bias": (1024,),
    "head.weight": (10, 1024),
    "head.bias": (10,),
}
"""About 6 MB of float32: large enough to see blocks being fetched, small enough to be written in a moment."""


@dataclass(slots=True)
class Training:
    """One experiment's run: event file, console log and checkpoints below `directory`. Used by one thread at a time."""

    directory: Path
    learning_rate: float
    started: float
    """Seconds since 1970 of step 0."""
    step: int = 0
    _event_file: Path = field(init=False)

    def __post_init__(self) -> None:
        for name in ("checkpoints", "tensorboard", "logs"):
            (self.directory / name).mkdir(parents=True)
        self._event_file = self.directory / "tensorboard" / events.file_name(self.started, "node-1", 4242)
        events.append(self._event_file, events.file_version(self.started))
        self._log(self.started, f"training {self.directory.name} on cuda:0, lr={self.learning_rate}")

    def advance(self, steps: int = 1) -> None:
        """Write what `steps` more steps of training leave behind."""
        records, lines = b"", []
        for _ in range(steps):
            self.step += 1
            wall_time = self.started + self.step * SECONDS_PER_STEP
            values = self.values(self.step)
            records += events.scalars(wall_time, self.step, values)
            figures = " ".join(f"{name}={value:.4g}" for name, value in values.items())
            lines.append(f"{_clock(wall_time)} step {self.step} {figures}\n")
        events.append(self._event_file, records)
        with self._console.open("a") as console:
            console.writelines(lines)

    def values(self, step: int) -> dict[str, float]:
        """The scalars of one step, the same each time it is asked for."""
        noise = random.Random(f"{self.directory.name}:{step}").gauss(0, 0.02)
        progress = 1 - math.exp(-step * self.learning_rate * 5)
        return {
            "loss": max(0.01, 2.3 - 2.1 * progress + noise),
            "accuracy": min(1.0, max(0.0, 0.1 + 0.85 * progress - noise)),
            "lr": self.learning_rate * (0.55 + 0.45 * math.cos(step / 500)),
        }

    def save(self, name: str) -> None:
        """Write a checkpoint under a temporary name and rename it into place, as careful trainers do."""
        path = self.directory / "checkpoints" / name
        values = self.values(self.step)
        unfinished = path.with_name(f".{name}.tmp")
        checkpoint.write(
            unfinished,
            {
                "epoch": self.step // STEPS_PER_EPOCH,
                "step": self.step,
                "loss": values["loss"],
                "model_state_dict": weights(f"{self.directory.name}:{self.step}"),
            },
        )
        unfinished.rename(path)
        self._log(self.started + self.step * SECONDS_PER_STEP, f"saved checkpoints/{name}")

    @property
    def _console(self) -> Path:
        return self.directory / "logs" / "console.log"

    def _log(self, wall_time: float, text: str) -> None:
        with self._console.open("a") as console:
            console.write(f"{_clock(wall_time)} {text}\n")


def generate(root: Path) -> list[Training]:
    """Make `exp-1` and `exp-2` below the existing directory `root`, as far as they have come by now."""
    steps = _EPOCHS_BEFORE * STEPS_PER_EPOCH
    started = time.time() - steps * SECONDS_PER_STEP
    trainings = []
    for name, learning_rate in (("exp-1", 1e-3), ("exp-2", 3e-3)):
        training = Training(root / name, learning_rate, started)
        training.advance(STEPS_PER_EPOCH)
        training.save("epoch_001.pt")
        training.advance(steps - STEPS_PER_EPOCH)
        training.save("best_model.pt")
        first = started + STEPS_PER_EPOCH * SECONDS_PER_STEP
        os.utime(training.directory / "checkpoints" / "epoch_001.pt", (first, first))
        trainings.append(training)
    return trainings


def keep_training(
    trainings: list[Training], stop: threading.Event, seconds_per_step: float = SECONDS_PER_STEP
) -> None:
    """Advance every training by one step each `seconds_per_step`, until `stop` is set.

    Event files and logs grow with each step; `best_model.pt` is replaced at the end of each epoch.
    """
    while not stop.wait(seconds_per_step):
        for training in trainings:
            training.advance()
            if training.step % STEPS_PER_EPOCH == 0:
                training.save("best_model.pt")


def weights(seed: str) -> dict[str, checkpoint.Value]:
    """A state dict of float32 tensors; the same seed gives the same one."""
    rng = random.Random(seed)
    noise = array.array("f", (rng.gauss(0, 0.02) for _ in range(16384)))
    if sys.byteorder == "big":
        noise.byteswap()
    pool = noise.tobytes()
    state: dict[str, checkpoint.Value] = {}
    for name, shape in _LAYERS.items():
        length = 4 * math.prod(shape)
        start = 4 * rng.randrange(len(noise))
        state[name] = checkpoint.DemoTensor(shape, (pool[start:] + pool * (length // len(pool) + 1))[:length])
    return state


def _clock(wall_time: float) -> str:
    return time.strftime("%H:%M:%S", time.localtime(wall_time))
