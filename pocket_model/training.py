"""A training that can be stopped at any time and goes on where it was."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from pocket_model.recipe import Stage

Loss = Callable[[torch.Generator], Tensor]
SAVE_SECONDS, TELL_SECONDS = 240.0, 15.0


class Training:
    """Trains `network` by a `Stage` and keeps a running average of its weights.

    Every step draws from a generator that is seeded with the step's number, so that a run which was stopped and
    resumed is the run that was never stopped.

    Args:
        network: on its device; parameters that need no gradient are left alone.
        stage: how long and how fast.
        state: the file that holds the state between runs.
        seed: of all steps.
        weight_decay: of the matrices.
        faster: how many times faster some parameters learn than the others, by their names.
    """

    def __init__(
        self,
        network: nn.Module,
        stage: Stage,
        state: Path,
        seed: int,
        weight_decay: float,
        faster: Mapping[str, float] | None = None,
    ) -> None:
        self._stage, self._state, self._seed = stage, state, seed
        self._parameters = {name: p for name, p in network.named_parameters() if p.requires_grad}
        self._device = next(iter(self._parameters.values())).device
        times = faster or {}
        alike: dict[tuple[float, float], list[nn.Parameter]] = {}
        for name, parameter in self._parameters.items():
            decay = weight_decay if parameter.ndim > 1 and name not in times else 0.0
            alike.setdefault((times.get(name, 1.0), decay), []).append(parameter)
        groups = [{"params": ps, "weight_decay": decay, "times": many} for (many, decay), ps in alike.items()]
        self._optimizer = torch.optim.AdamW(groups, lr=stage.rate, betas=(0.9, 0.99), fused=True)
        self._average = {name: p.detach().clone() for name, p in self._parameters.items()}
        self._step = 0
        if state.is_file():
            self._resume()

    def run(self, loss_of: Loss) -> dict[str, Tensor]:
        """Train to the end; returns the averaged weights."""
        saved = told = time.monotonic()
        begun, first, losses = time.monotonic(), self._step, []
        while self._step < self._stage.steps:
            losses.append(self._advance(loss_of))
            now = time.monotonic()
            if now - told > TELL_SECONDS or self._step == self._stage.steps:
                told, pace = now, (now - begun) / (self._step - first)
                mean = float(torch.stack(losses).mean())
                left = (self._stage.steps - self._step) * pace / 60
                print(f"step {self._step}/{self._stage.steps}  loss {mean:.4f}  {left:.0f} min left", flush=True)
                losses = []
            if now - saved > SAVE_SECONDS:
                saved = now
                self._save()
        self._save()
        return self._average

    def _advance(self, loss_of: Loss) -> Tensor:
        for group in self._optimizer.param_groups:
            group["lr"] = self._rate() * group["times"]
        loss = loss_of(torch.Generator(self._device).manual_seed(self._seed * 1_000_003 + self._step))
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self._parameters.values(), 1.0)
        self._optimizer.step()
        self._step += 1
        # Shorter at the beginning, so that the average soon forgets the first weights.
        keep = min(self._stage.average, self._step / (self._step + 10))
        torch._foreach_lerp_(list(self._average.values()), [p.data for p in self._parameters.values()], 1 - keep)
        return loss.detach()

    def _rate(self) -> float:
        stage = self._stage
        cosine = 0.5 * (1 + math.cos(math.pi * self._step / stage.steps))
        return stage.rate * min((self._step + 1) / stage.warmup, 1.0) * cosine

    def _save(self) -> None:
        tensors = {}
        for name, parameter in self._parameters.items():
            tensors[f"weight/{name}"] = parameter.detach()
            tensors[f"average/{name}"] = self._average[name]
            for part in ("exp_avg", "exp_avg_sq"):
                tensors[f"{part}/{name}"] = self._optimizer.state[parameter][part]
        self._state.parent.mkdir(parents=True, exist_ok=True)
        unfinished = self._state.with_suffix(".unfinished")
        save_file({name: t.contiguous() for name, t in tensors.items()}, unfinished, {"step": json.dumps(self._step)})
        unfinished.replace(self._state)

    @torch.no_grad()
    def _resume(self) -> None:
        with safe_open(self._state, framework="pt") as file:
            self._step = json.loads(file.metadata()["step"])
            for name, parameter in self._parameters.items():
                parameter.copy_(file.get_tensor(f"weight/{name}"))
                self._average[name].copy_(file.get_tensor(f"average/{name}"))
                self._optimizer.state[parameter] = {
                    "step": torch.tensor(float(self._step), device=self._device),
                    # Copies: what is mapped could not be saved over on Windows.
                    **{
                        part: file.get_tensor(f"{part}/{name}").to(parameter, copy=True)
                        for part in ("exp_avg", "exp_avg_sq")
                    },
                }
        print(f"going on from step {self._step}", flush=True)
