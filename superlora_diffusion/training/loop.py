"""The training loop, top to bottom: prepare, resume, step, measure, save."""

from __future__ import annotations

import json
import math
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import Tensor

from ..devices import resolve_device
from ..errors import DivergedError, RunError, SuperLoRAError
from ..files import explain_write_errors
from ..models.execution import speed_up
from ..progress import Reporter
from ..runs.config import RunConfig
from ..runs.folder import RunFolder, trim_metrics
from .checkpoints import (
    Tensors,
    explain_broken,
    list_checkpoints,
    load_checkpoint,
    pack_optimizer,
    save_checkpoint,
    unpack_optimizer,
)
from .data import describe_data
from .memory import explain_out_of_memory
from .results import write_result
from .scoring import Best, IntervalScores, keep_best, numbers_of
from .setup import (
    load_or_build_base,
    make_accelerator,
    make_ema,
    make_lr_schedule,
    make_optimizer,
    make_trainee,
    refuse_what_does_not_fit,
    resolve,
    tell_counts,
)
from .signals import StopRequest, stop_on_signals
from .tasks import make_task


class Interrupted(SuperLoRAError):
    """Training was asked to stop; everything is saved."""

    label = "interrupted"

    def __init__(self, message: str, number: int) -> None:
        super().__init__(message)
        self.exit_code = 128 + number


def train(
    config: RunConfig, device: str | None = None, quiet: bool = False, console: Console | None = None
) -> bool:
    """Train a run to its end, going on from its newest checkpoint if there is one.

    Args:
        config: the resolved settings; ``config.output`` is the run folder.
        device: "cpu", "cuda", ...; None takes the best there is.
        quiet: print nothing.
        console: where progress goes; standard error by default.

    Returns:
        True if anything was trained, False if the run was finished before.

    Raises:
        RunError: folder in use, made with another config, non-finite loss, out of memory.
        Interrupted: after Ctrl-C or SIGTERM, everything saved.
    """
    config = resolve(config)
    folder = RunFolder(config.output)
    accelerator = make_accelerator(config, folder, resolve_device(device))
    # Only one process of a distributed run holds the folder; the others wait until it is theirs.
    with folder.locked() if accelerator.is_main_process else _nothing():
        folder.check(config)
        if accelerator.is_main_process:
            folder.renew(config)
        accelerator.wait_for_everyone()
        if folder.is_finished(config):
            return False
        quiet = quiet or not accelerator.is_main_process
        with stop_on_signals() as stop, explain_out_of_memory(config):
            with Reporter("prepare", 1, "image", console, quiet) as preparing:
                trainer = Trainer(config, folder, accelerator, stop, preparing)
            with Reporter("train", config.train.steps, "step", console, quiet) as reporter:
                try:
                    trainer.run(reporter)
                finally:
                    trainer.close_trackers()
    return True


@contextmanager
def _nothing() -> Iterator[None]:
    yield


class Trainer:
    """One run in one process. ``run`` is the loop; every other method is one stage of it."""

    def __init__(
        self, config: RunConfig, folder: RunFolder, accelerator: Any, stop: StopRequest, preparing: Reporter
    ) -> None:
        self.config, self.folder, self.accelerator, self.stop = config, folder, accelerator, stop
        self.base = load_or_build_base(config)
        refuse_what_does_not_fit(config, self.base)
        self.task = make_task(config, self.base, folder, accelerator, preparing)
        self.data, self.validation = self.task.data, self.task.validation
        self.trainee = make_trainee(config, self.base)
        if config.train.gradient_checkpointing:
            self.base.enable_gradient_checkpointing()
        self.base.network.to(accelerator.device)
        speed_up(self.base.network, config.train.channels_last, config.train.compile)
        self.parameters = list(self.trainee.parameters.values())
        optimizer = make_optimizer(config, self.trainee)
        self.network, self.optimizer = accelerator.prepare(self.base.network, optimizer)
        self.ema = make_ema(config, self.parameters)
        every = config.evaluation.every
        self.scoring = None if every is None else IntervalScores(config, self.base, accelerator.device)
        self.losses: list[Tensor] = []
        self.step = self._resume()
        self.lr_schedule = make_lr_schedule(config, optimizer, self.step)
        self.held_out: dict[str, float] = {}
        self.logged_at = (self.step, time.perf_counter())

    # --- the loop -------------------------------------------------------------------------------------------

    def run(self, reporter: Reporter) -> None:
        """Train from the current step to the last, then write the result."""
        self.reporter = reporter
        self._start()
        self.network.train()
        while self.step < self.config.train.steps:
            self._optimise()
            self.step += 1
            reporter.advance()
            if self._due(self.config.log.every):
                self._log()
            if self._due(self.config.validation.every):
                self._validate()
            if self._due(self.config.preview.every):
                self._preview()
            if self._due(self.config.evaluation.every):
                self._score()
            stop = self._asked_to_stop()
            if self._due(self.config.checkpoint.every) or stop:
                self._checkpoint()
            if stop and self.step < self.config.train.steps:
                raise self._interrupted()
        self._finish()

    def _start(self) -> None:
        config = self.config
        if self.accelerator.is_main_process:
            self.folder.claim(config)
            trim_metrics(self.folder.metrics, self.step)
            describe_data(self.folder.path / "data.json", self.data)
        if config.log.trackers:
            self.accelerator.init_trackers(
                "superlora-diffusion", config={"output": config.output, "seed": config.seed}
            )
        for note in self.trainee.notes:
            self.reporter.say(note)
        rate = f"learning rate {config.learning_rate:g}"
        found = self.trainee
        told = tell_counts(found.count, found.what, found.head_count)
        self.reporter.say(f"Training {told}, {rate}, on {self.accelerator.device}.")
        if self.step:
            self.reporter.advance(self.step)
            self.reporter.say(f"Going on from step {self.step}.")

    def _asked_to_stop(self) -> bool:
        """Whether any process was, so that all stop after the same step."""
        if self.accelerator.num_processes == 1:
            return bool(self.stop)
        asked = torch.tensor([int(bool(self.stop))], device=self.accelerator.device)
        return bool(self.accelerator.gather(asked).any())

    def _due(self, every: int | None) -> bool:
        return every is not None and (self.step % every == 0 or self.step == self.config.train.steps)

    # --- one optimiser step ---------------------------------------------------------------------------------

    def _optimise(self) -> None:
        accumulation = self.config.train.gradient_accumulation
        for micro in range(accumulation):
            with self.accelerator.accumulate(self.network):
                loss = self._loss(self.step * accumulation + micro)
                self.accelerator.backward(loss)
                if self.accelerator.sync_gradients and self.config.train.max_grad_norm is not None:
                    self.accelerator.clip_grad_norm_(self.parameters, self.config.train.max_grad_norm)
                self.optimizer.step()
                self.optimizer.zero_grad()
            self.losses.append(loss.detach())
        if not self.accelerator.optimizer_step_was_skipped:
            self.lr_schedule.step()
            if self.ema is not None:
                self.ema.step(self.parameters)

    def _loss(self, number: int) -> Tensor:
        rank, world = self.accelerator.process_index, self.accelerator.num_processes
        return self.task.loss(self.network, number, rank, world)

    # --- measuring ------------------------------------------------------------------------------------------

    def _log(self) -> None:
        self._raise_if_diverged()
        loss = torch.stack(self.losses).mean()
        loss = float(self.accelerator.gather(loss[None]).mean())
        self.losses.clear()
        step, since = self.logged_at
        speed = (self.step - step) / max(time.perf_counter() - since, 1e-9)
        self.logged_at = (self.step, time.perf_counter())
        rate = self.lr_schedule.get_last_lr()[0]
        self._record(loss=loss, learning_rate=rate, steps_per_second=round(speed, 3))
        held_out = f"  validation {self.held_out['validation_loss']:.4f}" if self.held_out else ""
        left = f"lr {rate:.1e}  left {self._time_left(speed)}"
        self.reporter.note(f"loss {loss:.4f}{held_out}  {speed:.1f} steps/s  {left}")

    def _time_left(self, speed: float) -> str:
        minutes, seconds = divmod(int((self.config.train.steps - self.step) / speed), 60)
        return f"{minutes}:{seconds:02d}"

    def _validate(self) -> None:
        with self._averaged():
            found = self.validation.measure(self.network, self.accelerator.device)
            if not math.isfinite(found["validation_loss"]):
                raise self._diverged(found["validation_loss"])
            measured = f"{len(self.validation)} images, seed {self.config.validation.seed}"
            kept = self._keep_if_best(found, measured)
        self.held_out = found
        self._record(**found)
        told = ", ".join(f"{name.replace('_', ' ')} {value:.5f}" for name, value in found.items())
        self.reporter.say(f"step {self.step}: {told}{kept}")

    def _score(self) -> None:
        with self._averaged():
            scores = self.scoring.measure(self.trainee)
            found = numbers_of(scores)
            kept = self._keep_if_best(found, self.scoring.measured)
        for note in self.scoring.new_notes(scores):
            self.reporter.say(f"note: {note}")
        self._record(**found, scored_images=scores.n)
        told = ", ".join(f"{name} {value:.4g}" for name, value in found.items())
        self.reporter.say(f"step {self.step}: {told}{kept}")

    def _keep_if_best(self, found: dict[str, float], measured: str) -> str:
        """Write the model as it stands to RUN/best if it is the best by the score that decides; says so."""
        by = self.config.evaluation.best_by
        if by not in found or not self.accelerator.is_main_process:
            return ""
        best = Best(self.step, by, found[by], measured, found)
        return " (best so far)" if keep_best(self.folder.best, best, self._write_result) else ""

    def _preview(self) -> None:
        if self.accelerator.is_main_process:
            adapter = self.trainee.adapter
            with self._averaged(), nullcontext() if adapter is None else adapter.cached():
                self.task.preview(self.folder.samples / f"step-{self.step:06d}.png")

    def _record(self, **values: float) -> None:
        if self.accelerator.is_main_process:
            with explain_write_errors(self.folder.metrics), self.folder.metrics.open("a") as file:
                file.write(json.dumps({"step": self.step, **values}) + "\n")
        if self.config.log.trackers:
            self.accelerator.log(values, step=self.step)

    @contextmanager
    def _averaged(self) -> Iterator[None]:
        """The moving average in place of the weights, for the block."""
        if self.ema is None:
            yield
            return
        self.ema.store(self.parameters)
        self.ema.copy_to(self.parameters)
        try:
            yield
        finally:
            self.ema.restore(self.parameters)

    # --- saving and going on --------------------------------------------------------------------------------

    def _checkpoint(self) -> None:
        self._raise_if_diverged()
        if self.accelerator.is_main_process:
            names = list(self.trainee.parameters)
            tensors = {
                "weights": dict(zip(names, self.parameters, strict=True)),
                "optimizer": pack_optimizer(self.optimizer.state_dict()),
            }
            # The losses since the last line of metrics, so that the next one is what it would have been.
            losses = [float(loss) for loss in self.losses]
            state: dict[str, Any] = {"data": self.data.content_hash, "losses": losses}
            if self.ema is not None:
                tensors["ema"] = dict(zip(names, self.ema.shadow_params, strict=True))
                state["ema_step"] = self.ema.optimization_step
            if fixed := self.trainee.fixed():
                tensors["fixed"] = fixed
            if self.accelerator.scaler is not None:
                state["scaler"] = self.accelerator.scaler.state_dict()
            save_checkpoint(self.folder.checkpoints, self.step, tensors, state, self.config.checkpoint.keep)
        self.accelerator.wait_for_everyone()

    def _resume(self) -> int:
        """Load the newest checkpoint, if there is one, and return its step."""
        found = list_checkpoints(self.folder.checkpoints)
        if not found:
            return 0
        with explain_broken(found[-1]):
            tensors, state = load_checkpoint(found[-1])
            other_data = state["data"] != self.data.content_hash
        if other_data:
            raise RunError(f"{found[-1]} was trained on other images than {self.config.data.name} now holds.")
        with explain_broken(found[-1]):
            self._put_into_place(tensors, state)
            return int(state["step"])

    def _put_into_place(self, tensors: dict[str, Tensors], state: dict[str, Any]) -> None:
        with torch.no_grad():
            for name, parameter in self.trainee.parameters.items():
                parameter.copy_(tensors["weights"][name])
            for name, tensor in self.trainee.fixed().items():
                tensor.copy_(tensors["fixed"][name])
        self.optimizer.load_state_dict(unpack_optimizer(tensors["optimizer"], self.optimizer.state_dict()))
        if self.ema is not None:
            for name, shadow in zip(self.trainee.parameters, self.ema.shadow_params, strict=True):
                shadow.copy_(tensors["ema"][name])
            self.ema.optimization_step = state["ema_step"]
        if self.accelerator.scaler is not None:
            self.accelerator.scaler.load_state_dict(state["scaler"])
        device = self.accelerator.device
        self.losses = [torch.tensor(loss, device=device) for loss in state.get("losses", ())]

    def _raise_if_diverged(self) -> None:
        losses = torch.stack(self.losses) if self.losses else torch.zeros(1)
        wrong = losses[~losses.isfinite()].tolist()
        if not wrong and not all(bool(parameter.isfinite().all()) for parameter in self.parameters):
            wrong = [float("nan")]  # the weights already are, so the next loss will be
        if wrong:
            raise self._diverged(wrong[0])

    def _diverged(self, loss: float) -> DivergedError:
        last = self._last_checkpoint()
        return DivergedError(
            f"the loss became {loss} before step {self.step}. {last} Try a lower train.learning_rate "
            f"(it was {self.config.learning_rate:g}), a longer train.warmup_steps, "
            "or train.mixed_precision=no, in another run folder (output=...)."
        )

    def _last_checkpoint(self) -> str:
        found = list_checkpoints(self.folder.checkpoints)
        return f"The last good checkpoint is {found[-1]}." if found else "There is no checkpoint yet."

    def _interrupted(self) -> Interrupted:
        number = self.stop.signal or signal.SIGINT
        message = (
            f"Stopped at step {self.step}; saved. Run the same command again to go on ({self.folder.path})."
        )
        return Interrupted(message, number)

    def _finish(self) -> None:
        """Put the moving average into place for good and write the adapter, or the base for method full."""
        if self.ema is not None:
            self.ema.copy_to(self.parameters)
        self.accelerator.unwrap_model(self.network, keep_fp32_wrapper=False)
        if self.accelerator.is_main_process:
            self._write_result(self.folder.result(self.config))

    def _write_result(self, folder: Path) -> None:
        write_result(folder, self.config, self.trainee, self.data, self.step)

    def close_trackers(self) -> None:
        """Let the trackers write what they hold, also after an interruption."""
        if self.config.log.trackers:
            self.accelerator.end_training()


def final_path(config: RunConfig) -> Path:
    """Where the finished run's adapter (or base) lies."""
    return RunFolder(config.output).result(config)
