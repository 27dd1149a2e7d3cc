"""Learning rate schedules: pure functions from the epoch to a factor of the optimiser's own rate."""

import math


class Constant:
    """The optimiser's rate throughout, after a linear rise over `warmup_epochs`."""

    def __init__(self, warmup_epochs: float = 0.0):
        _check_range("warmup_epochs", warmup_epochs, 0, math.inf)
        self.warmup_epochs = warmup_epochs

    def shared_epochs(self, epochs: int) -> int:
        """Number of first epochs of a training of `epochs` that every longer one has, too: here all."""
        return epochs

    def factor(self, epoch: float, epochs: int) -> float:
        """The factor at `epoch` (0 at the start, a fraction within an epoch) of a training of `epochs`."""
        return min(1.0, epoch / self.warmup_epochs) if self.warmup_epochs else 1.0


class StepByEpoch(Constant):
    """Multiplied by `gamma` after every `every` epochs."""

    def __init__(self, every: int, gamma: float = 0.1, warmup_epochs: float = 0.0):
        super().__init__(warmup_epochs)
        _check_range("every", every, 1, math.inf)
        _check_range("gamma", gamma, 0, 1)
        self.every, self.gamma = every, gamma

    def factor(self, epoch: float, epochs: int) -> float:
        return super().factor(epoch, epochs) * self.gamma ** (int(epoch) // self.every)


class Polynomial(Constant):
    """Falls as (1 - epoch/epochs)^power (Chen et al. 2017); it looks at the total, so that nothing is shared."""

    def __init__(self, power: float = 0.9, warmup_epochs: float = 0.0):
        super().__init__(warmup_epochs)
        _check_range("power", power, 0, math.inf)
        self.power = power

    def shared_epochs(self, epochs: int) -> int:
        return 0

    def factor(self, epoch: float, epochs: int) -> float:
        return super().factor(epoch, epochs) * (1 - epoch / epochs) ** self.power


class Cosine(Constant):
    """Falls along half a cosine to `end` (Loshchilov & Hutter 2017); it looks at the total, so nothing is shared."""

    def __init__(self, end: float = 0.0, warmup_epochs: float = 0.0):
        super().__init__(warmup_epochs)
        _check_range("end", end, 0, 1)
        self.end = end

    def shared_epochs(self, epochs: int) -> int:
        return 0

    def factor(self, epoch: float, epochs: int) -> float:
        fall = (1 + math.cos(math.pi * epoch / epochs)) / 2
        return super().factor(epoch, epochs) * (self.end + (1 - self.end) * fall)


class WarmupStableDecay(Constant):
    """Constant, then a linear fall to zero over the last `decay` of all epochs (Hu et al. 2024, Hägele et al. 2024).

    Only the fall looks at the total, so that all lengths share the epochs before their own fall.
    """

    def __init__(self, decay: float = 0.2, warmup_epochs: float = 0.0):
        super().__init__(warmup_epochs)
        _check_range("decay", decay, 0, 1)
        self.decay = decay

    def shared_epochs(self, epochs: int) -> int:
        return epochs - math.ceil(self.decay * epochs - 1e-9)  # 0.2 * 100 must not become 21

    def factor(self, epoch: float, epochs: int) -> float:
        start = self.shared_epochs(epochs)
        fall = min(1.0, (epochs - epoch) / (epochs - start)) if start < epochs else 1.0
        return super().factor(epoch, epochs) * fall


def _check_range(name: str, value: float, least: float, most: float) -> None:
    if not least <= value <= most:
        accepted = f"from {least} to {most}" if math.isfinite(most) else f"of at least {least}"
        raise ValueError(f"{name}={value}: accepted is a number {accepted}")
