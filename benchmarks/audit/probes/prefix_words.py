"""Words before the concept's own prompts, learned for each prompt by gradient, in the way of UnlearnDiffAtk (arXiv:2310.11868).

As there, a few tokens are put before a prompt that names the concept, and go down the error of the noise that the erased model predicts
for a picture of it; the words are those whose embeddings are nearest, and the gradient is taken where they are (PEZ, arXiv:2302.03668).
Every word is a whole one that a person can type. The best words of a prompt are those of least error on noise that is kept apart.
`numbers` are the mean of that error before and after.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.audit.attacker import Attacker, Outcome, differentiable
from benchmarks.audit.erasures import Erased
from pocket_model.trials import without

COUNT, STEPS, LOOK = 5, 40, 5
"""Words, updates of each (both as published), and after how many of them the words are compared with the best so far."""
RATE, DRAWS = 0.3, 3
"""Of Adam, relative to the root mean square of the words' embeddings; noises by which words are compared."""
_END = "</w>"


def measure(attacker: Attacker, erased: Erased) -> Outcome:
    """Of as many of the attacker's captions as there are own prompts."""
    captions = attacker.captions[: attacker.sizes.captions]
    said = without(attacker.concept, captions, erased.word) if erased.word else captions
    with torch.inference_mode(False), torch.enable_grad():
        attack = _Attack(attacker, erased, [caption.text for caption in said])
        before, after = attack.run()
        with torch.no_grad():
            embeddings = attack.encoded(attack.table[attack.best]).cpu()
    print(*(f"  {attack.text(place)}" for place in range(min(4, len(said)))), sep="\n", flush=True)
    return Outcome(attacker.shown(erased, embeddings), (before, after))


class _Attack:
    """One prefix for each prompt.

    Attributes:
        table: embeddings [words, d] of all words.
        best: the best words so far [n, COUNT], as places in the table.
    """

    def __init__(self, attacker: Attacker, erased: Erased, prompts: Sequence[str]) -> None:
        import comfy.model_management
        from rece_pack.nodes.host.training.text import TrainedText

        clip = erased.clip
        self._denoiser = differentiable(erased.model, (len(prompts), *attacker.latents.shape[1:]))
        comfy.model_management.load_model_gpu(clip.patcher)
        self._model, self._text, self._prompts = erased.model.model, TrainedText(clip, [], torch.device("cpu")), prompts
        self._encoder: Any = clip.cond_stage_model.clip_l
        self._tokens = [[token for token, _ in clip.tokenize(prompt)["l"][0]] for prompt in prompts]
        vocabulary = clip.tokenizer.clip_l.tokenizer.get_vocab()
        words = {place: word.removesuffix(_END) for word, place in vocabulary.items() if word.endswith(_END)}
        self._words = {place: word for place, word in words.items() if word.isascii() and word.isalpha()}
        embedded = self._encoder.transformer.get_input_embeddings().weight.float()
        self.table = embedded[torch.tensor(list(self._words), device=embedded.device)].clone()
        self._directions = nn.functional.normalize(self.table, dim=1).T
        self._clean = self._denoiser.latents(attacker.latents[: len(prompts)].clone())
        self._generator = torch.Generator().manual_seed(attacker.seed)
        self.best = torch.randint(len(self.table), (len(prompts), COUNT), generator=self._generator)

    def run(self) -> tuple[float, float]:
        """The mean error of the words at the beginning, and of the best."""
        from rece_pack.nodes.host.training.denoiser import LOSS_SCALE, constant_weights

        learned = nn.Parameter(self.table[self.best].clone())
        optimizer = torch.optim.Adam([learned], lr=RATE * float(self.table.square().mean().sqrt()))
        kept = [self._denoiser.noised(self._clean, self._generator) for _ in range(DRAWS)]
        with constant_weights(self._model), self._text.trainable():
            first = least = self._errors(kept, self.best)
            for step in range(1, STEPS + 1):
                nearest = self._nearest(learned.detach())
                typed = self.table[nearest] + learned - learned.detach()
                noised = self._denoiser.noised(self._clean, self._generator)
                denoised = self._denoiser.denoised(noised, self.encoded(typed), {})
                # Summed over the prompts: each has words and a loss of its own.
                loss = (noised.predicted_noise(denoised) - noised.noise).square().mean() * len(self._prompts)
                optimizer.zero_grad()
                torch.autograd.backward(loss * LOSS_SCALE)
                optimizer.step()
                if step % LOOK == 0:
                    nearest = self._nearest(learned.detach())
                    found = self._errors(kept, nearest)
                    better = found < least
                    self.best[better], least = nearest[better], torch.minimum(least, found)
        return float(first.mean()), float(least.mean())

    def encoded(self, typed: Tensor) -> Tensor:
        """Token embeddings [n, 77, d] of the prompts behind words with the embeddings `typed` [n, COUNT, d]."""
        sections: list[list[int | Tensor]] = [
            [tokens[0], *words, *tokens[1 : len(tokens) - COUNT]]
            for tokens, words in zip(self._tokens, typed, strict=True)
        ]
        found: Tensor = self._encoder(sections)[0]
        return found.float()

    def text(self, place: int) -> str:
        """What a person would type."""
        words = list(self._words.values())
        return " ".join([*(words[int(word)] for word in self.best[place]), self._prompts[place]])

    @torch.no_grad()
    def _errors(self, kept: Sequence[Any], words: Tensor) -> Tensor:
        """Of the predicted noise [n], for pictures with noise that is always the same."""
        contexts, found = self.encoded(self.table[words]), torch.zeros(len(words))
        for noised in kept:
            predicted = noised.predicted_noise(self._denoiser.denoised(noised, contexts, {}))
            found += (predicted - noised.noise).square().flatten(1).mean(dim=1).cpu() / len(kept)
        return found

    def _nearest(self, learned: Tensor) -> Tensor:
        """By the cosine, as places in the table."""
        return (nn.functional.normalize(learned, dim=-1) @ self._directions).argmax(dim=-1).cpu()
