"""Examples of a concept as pairs of prompts with and without it, and how much of the concept is in each."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from ....rece_ops import InputError
from ....rece_ops.measures.words import WordSpace
from ....rece_ops.progress import Progress
from ....rece_ops.texts import quoted
from ...request.concept_examples import Example
from ...request.concept_lines import ConceptLine, text_key
from ...request.everyday_prompts import CALIBRATION
from ...request.suggestion_request import ALIKE
from ..session import Session
from ..text.contrasts import PromptPair
from .encode_words import encode_words, word_tokens

_WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")


@dataclass(frozen=True)
class PairedExamples:
    """What examples came to.

    Attributes:
        pairs: prompts with and without the concept.
        note: what was done, as a sentence.
    """

    pairs: tuple[PromptPair, ...]
    note: str


def pair_examples(
    session: Session, line: ConceptLine, examples: Sequence[Example], gram: Tensor, progress: Progress
) -> PairedExamples:
    """The pairs of prompts that `examples` of a concept make.

    A prompt that stands alone is paired with itself, with the target in place of the words that say the concept: the concept's own,
    and every word of a likeness to it of at least `ALIKE` (see `rece_ops.measures.words`). It counts by the share of the concept
    that its strongest word has. A prompt without such a word is left out.

    Args:
        session: encodes words.
        line: the concept and its target.
        examples: at least one.
        gram: G [d, d] of the main text stream.
        progress: called for every word.

    Raises:
        InputError: no prompt has such a word, or see `TextEncoder.encode`.
    """
    alone = [example.prompt for example in examples if example.without is None]
    shares = _shares(session, line.concept, alone, gram, progress) if alone else {}
    found = [_paired(example, line, shares) for example in examples]
    pairs = tuple(pair for pair in found if pair is not None)
    if not pairs:
        raise InputError(
            f"No prompt of 'examples' says the concept {quoted(line.concept)} in a word that the text encoder reads as it: give pairs, "
            "as in 'a nude woman -> a woman in a dress', or type the concept as the prompts do."
        )
    return PairedExamples(pairs, _note(examples, pairs, shares))


def _shares(
    session: Session, concept: str, prompts: Sequence[str], gram: Tensor, progress: Progress
) -> dict[str, float]:
    """The share of the concept in each word of `prompts` that says it, by `text_key` of the word."""
    # What is common among words is told by everyday ones: in the prompts themselves, the concept is.
    everyday, own = _words(CALIBRATION), _words(prompts)
    words = encode_words(session, [*everyday, *own], progress)
    standing = WordSpace(gram, words.tokens[: len(everyday)]).standing(words.tokens, word_tokens(session, concept))
    rows = zip(words.words, standing.likeness.tolist(), standing.share.tolist(), strict=True)
    return {text_key(word): min(share, 1.0) for word, likeness, share in rows if likeness >= ALIKE and share > 0}


def _words(prompts: Sequence[str]) -> list[str]:
    """The words of `prompts`, each once."""
    return list(dict.fromkeys(word for prompt in prompts for word in _WORD.findall(prompt.lower())))


def _paired(example: Example, line: ConceptLine, shares: Mapping[str, float]) -> PromptPair | None:
    if example.without is not None:
        return PromptPair(example.prompt, example.without)
    found = _sayings(example.prompt, line.concept, shares)
    without = _replaced(example.prompt, [place for place, _ in found], line.target)
    if not found or text_key(without) == text_key(example.prompt):
        return None
    return PromptPair(example.prompt, without, max(share for _, share in found))


def _sayings(prompt: str, concept: str, shares: Mapping[str, float]) -> list[tuple[tuple[int, int], float]]:
    """Where a prompt says the concept, from left to right, and how much of it is there."""
    phrase = r"\s+".join(map(re.escape, concept.split()))
    found = [(one.span(), 1.0) for one in re.finditer(rf"(?<!\w){phrase}(?!\w)", prompt, re.IGNORECASE)]
    words = ((one.span(), shares.get(text_key(one[0]), 0.0)) for one in _WORD.finditer(prompt))
    return sorted([*found, *((place, share) for place, share in words if share)])


def _replaced(prompt: str, places: Sequence[tuple[int, int]], target: str) -> str:
    """`prompt` with the target in these places, once where several follow each other with nothing but blanks between."""
    parts: list[str] = []
    end = 0
    for start, stop in places:
        if not parts or prompt[end:start].strip():
            parts += [prompt[end:start], target]
        end = max(end, stop)
    return " ".join("".join([*parts, prompt[end:]]).split())


def _note(examples: Sequence[Example], pairs: Sequence[PromptPair], shares: Mapping[str, float]) -> str:
    given = sum(example.without is not None for example in examples)
    told = f"Of {len(examples)} example{'s' if len(examples) > 1 else ''}, {given} came as a pair"
    if given == len(examples):
        return f"{told}."
    words = ", ".join(quoted(word, 30) for word in sorted(shares, key=shares.__getitem__, reverse=True)[:12])
    left = len(examples) - len(pairs)
    told += f" and {len(pairs) - given} were paired by replacing {words or 'the concept'}"
    return f"{told}; {left} say the concept in no word and were left out." if left else f"{told}."
