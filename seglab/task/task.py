"""The one LightningModule: network, loss and optimiser; how its maps are scored is handed in."""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.strategies import DDPStrategy
from torch import Tensor, nn

from seglab.models.network import Network
from seglab.profile.phases import during
from seglab.task.finite import LossWatch, check_loss_scale
from seglab.task.schedules import Constant

if TYPE_CHECKING:
    from seglab.maps.scoring import Scored, Scoring


class Tally:
    """The sums of one stage over one epoch, kept on the device until somebody asks."""

    def __init__(self, num_classes: int, device: torch.device):
        self.loss = torch.zeros((), device=device)
        self.images = 0
        self.counts = torch.zeros(num_classes, num_classes, dtype=torch.long, device=device)


class SegmentationTask(pl.LightningModule):
    """Trains `net` on `loss` with `optimizer(parameters)`; every random draw is a function of (seed, step)."""

    def __init__(
        self,
        net: Network,
        loss: nn.Module,
        optimizer: Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer],
        schedule: Constant,
        scoring: "Scoring",
        seed: int = 0,
        compile: bool = False,
    ):
        super().__init__()
        self.net = net
        self.loss = loss
        self.make_optimizer = optimizer
        self.schedule = schedule
        self.scoring = scoring
        self.seed = seed
        self.tallies: dict[str, Tally] = {}
        self.watch = LossWatch()
        self._loaded: tuple[Tensor, int] | None = None
        # The function and not the module, whose weights would else have two names; training alone, so that scores and
        # maps come from one path; each shape by itself, so that code does not depend on which of them came first.
        self._compiled = torch.compile(net.forward, dynamic=False) if compile else None

    def forward(self, image: Tensor) -> Tensor:
        """`image float [B,C,H,W]` in the reader's units -> logits `[B,K,H,W]`."""
        return self.net(image)

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        with during(self.trainer, "forward"):
            logits = (self._compiled or self.net)(batch["image"])
        loss = self._add_loss(logits, batch, "train")
        asked = self.trainer.accumulate_grad_batches
        there = min(asked, int(self.trainer.num_training_batches) - batch_idx // asked * asked)
        return loss if there == asked else loss * (asked / there)  # Lightning divides by `asked` also in the last step

    def validation_step(self, batch: dict[str, Any], batch_idx: int, dataloader_idx: int = 0) -> "dict[str, Scored]":
        stage = self._scored_stages[dataloader_idx]
        with during(self.trainer, "forward"):
            logits = self.scoring.logits(batch["image"])
        scored = self.scoring.score(logits, batch["mask"])
        self._add_loss(logits, batch, stage)
        self.tallies[stage].counts += scored.counts.sum(0)
        return {"scored": scored}

    def _add_loss(self, logits: Tensor, batch: dict[str, Any], stage: str) -> Tensor:
        """The loss of a batch, added to the stage's tally. Raises NotFinite, in time or a bit later."""
        with during(self.trainer, "loss"):
            loss = self.loss(logits, batch["target"])
        place = f"epoch {self.epoch + 1}, step {self.global_step}, on the images {', '.join(batch['name'])}"
        half = "; float16 ends at 65504, the numbers of precision=32 do not" if self._scaler else ""
        self.watch.add(loss, lambda value: f"the {stage} loss is {value} in {place}{half}", self.trainer.world_size)
        tally = self.tallies[stage]
        tally.loss += loss.detach() * len(logits)
        tally.images += len(logits)
        return loss

    @property
    def epoch(self) -> int:
        """Epochs finished; unlike `current_epoch` also right after a checkpoint from an epoch's end was loaded."""
        return self.trainer.fit_loop.epoch_progress.current.processed  # type: ignore[attr-defined]

    def on_train_start(self) -> None:
        self._start_epoch()  # within an epoch, Lightning goes on without starting it again
        if self._loaded:
            tally = self.tallies["train"] = self._tally()
            if self.trainer.is_global_zero:  # of several processes that train together, one has the sum of all
                tally.loss += self._loaded[0].to(self.device)
                tally.images += self._loaded[1]
            self._loaded = None
        if self.trainer.gradient_clip_val:  # Lightning then unscales before it clips, which it else refuses
            for optimizer in self.trainer.optimizers:
                optimizer._step_supports_amp_scaling = False  # type: ignore[attr-defined]

    def on_train_epoch_start(self) -> None:
        self._start_epoch()
        self.tallies = {"train": self._tally()}

    def _start_epoch(self) -> None:
        """Freezes or frees the encoder.

        DDP averages the gradients of those parameters alone that trained when it was built, so it is built again.
        """
        before = [p.requires_grad for p in self.parameters()]
        self.net.start_epoch(self.epoch)
        strategy = self.trainer.strategy
        if isinstance(strategy, DDPStrategy) and before != [p.requires_grad for p in self.parameters()]:
            strategy.model = self
            strategy.configure_ddp()

    def look_for_not_finite(self) -> None:
        """Raises NotFinite if a loss so far was not finite. All processes that train together must call it."""
        self.watch.look(self.trainer.strategy, self.trainer.world_size)
        check_loss_scale(self._scaler)

    @property
    def _scaler(self) -> torch.amp.GradScaler | None:
        """The scale of the loss, in 16-mixed."""
        return getattr(self.trainer.precision_plugin, "scaler", None)

    def on_train_batch_start(self, batch: dict[str, Any], batch_idx: int) -> None:
        self.net.start_batch(batch_idx)
        batches = int(self.trainer.num_training_batches)
        epoch = self.global_step / -(-batches // self.trainer.accumulate_grad_batches)
        for group in self.trainer.optimizers[0].param_groups:
            group["lr"] = group["initial_lr"] * self.schedule.factor(epoch, self.trainer.max_epochs or 0)
        seen = self.epoch * batches + batch_idx  # the step, where each batch is one
        torch.manual_seed(int(np.random.SeedSequence([self.seed, seen]).generate_state(1)[0]))

    def on_validation_epoch_start(self) -> None:
        if self.trainer.world_size > 1:  # each process has running statistics of its own: the first's are kept
            for buffer in self.net.buffers():
                torch.distributed.broadcast(buffer, 0)
        self.scoring.begin(self.net)
        for stage in self._scored_stages:
            self.tallies[stage] = self._tally()

    def on_validation_epoch_end(self) -> None:
        self.scoring.end()

    @property
    def _scored_stages(self) -> list[str]:
        return ["val", "train_scored"][: len(self.trainer.num_val_batches)]

    def epoch_scores(self) -> tuple[dict[str, float], dict[str, np.ndarray]]:
        """`<stage>/loss` of every stage, `<stage>/<score>` of those scored in eval mode, and their counts `[K,K]`."""
        self.look_for_not_finite()
        numbers: dict[str, float] = {}
        counts: dict[str, np.ndarray] = {}
        for stage, tally in self.tallies.items():
            images = self._summed(torch.tensor(tally.images, device=self.device))
            numbers[f"{stage}/loss"] = float(self._summed(tally.loss)) / int(images)
            total = self._summed(tally.counts)
            if stage != "train":
                counts[stage] = total.cpu().numpy()
                numbers |= {f"{stage}/{name}": value for name, value in self.scoring.numbers(total).items()}
        return numbers, counts

    def configure_optimizers(self) -> torch.optim.Optimizer:
        optimizer = self.make_optimizer(self.parameters())
        for group in optimizer.param_groups:
            group["initial_lr"] = group["lr"]
        return optimizer

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.look_for_not_finite()  # no checkpoint is ever of weights that are no longer numbers
        tally = self.tallies["train"]
        loss, images = self._summed(tally.loss), self._summed(torch.tensor(tally.images, device=self.device))
        checkpoint["tally"] = {"loss": loss, "images": int(images)}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self._loaded = checkpoint["tally"]["loss"], checkpoint["tally"]["images"]  # the device comes later

    def _tally(self) -> Tally:
        return Tally(len(self.scoring.class_names), self.device)

    def _summed(self, value: Tensor) -> Tensor:
        """The sum over all processes that train together."""
        return self.trainer.strategy.reduce(value.clone(), reduce_op="sum")  # type: ignore[return-value]
