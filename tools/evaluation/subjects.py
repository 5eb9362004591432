"""What a command line asks to evaluate, opened in this process or in one that knows nothing yet."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

import torch

from tools.evaluation.attacks import DERIVED, INVERSION, NAMES, VECTOR
from tools.evaluation.checkpoint import Checkpoint, asked_name, kept_name, read_sets, under_attack
from tools.evaluation.detectors import NOTHING, RESNET, open_detector
from tools.evaluation.work import Subject
from tools.host import prepare_comfyui
from tools.launch_comfyui import make_importable
from tools.pack import import_pack

if TYPE_CHECKING:
    from tools.evaluation.columns import Columns


def open_subject(arguments: argparse.Namespace) -> Subject:
    """The pocket model, or a user's checkpoint with its prompt sets and a detector.

    Raises:
        InputError: something that belongs to a checkpoint is missing or wrong.
        ValueError: the pocket model does not know the concept.
    """
    return _pocket(arguments) if arguments.pocket else _checkpoint(arguments)


def open_subject_anywhere(arguments: argparse.Namespace) -> Subject:
    """The same in a process that has not found ComfyUI and the pack yet."""
    make_importable(prepare_comfyui())
    import_pack()
    return open_subject(arguments)


def columns_of(arguments: argparse.Namespace) -> Columns:
    """What the subject's sets are for."""
    from tools.evaluation.columns import Columns

    attacked = attacks_of(arguments)
    if not arguments.pocket:
        asking = [asked_name(path, arguments.category) for path in arguments.prompts]
        kept = [kept_name(path, arguments.category) for path in arguments.keep]
        under = [under_attack(name, attack) for name in asking for attack in attacked]
        # Only a classifier says what else a picture shows.
        judged = arguments.detector == RESNET and len(asking) > 1 and kept
        harmonic = (asking[0], asking[1], kept[0]) if judged else None
        return Columns((*asking, *under), tuple(kept), harmonic, tuple(under))
    from tools.evaluation.pocket import NEIGHBOURS, OTHERS, OWN, PARAPHRASED

    names = tuple(NAMES[attack] for attack in attacked)
    return Columns((OWN, PARAPHRASED, *names), (NEIGHBOURS, OTHERS), (OWN, PARAPHRASED, OTHERS), names)


def attacks_of(arguments: argparse.Namespace) -> list[str]:
    """The attacks that were asked for, or those that take no training.

    Raises:
        InputError: an attack needs to know what pictures show.
    """
    if arguments.attacks is None:
        return [DERIVED, VECTOR] if arguments.pocket else []
    if VECTOR in arguments.attacks and not arguments.pocket:
        from rece_pack.rece_ops import InputError

        raise InputError(
            "--attacks vector is for the pocket model, whose words come in pairs: for a checkpoint, give 'derived' or "
            "'inversion', and the concept vector in the graph."
        )
    return list(arguments.attacks)


def _pocket(arguments: argparse.Namespace) -> Subject:
    from pocket_model.sampling import Sampler
    from tools.evaluation.pocket import Pocket

    sampler = Sampler(steps=arguments.steps, batch=arguments.chunk)
    return Pocket(
        arguments.concept,
        arguments.count,
        sampler,
        attacks_of(arguments),
        arguments.inversion_steps,
        getattr(torch, arguments.dtype),
    )


def _checkpoint(arguments: argparse.Namespace) -> Subject:
    from rece_pack.nodes.host.jobs.sample import Sampling
    from rece_pack.rece_ops import InputError

    if not arguments.concepts or not (arguments.prompts or arguments.keep):
        raise InputError(
            "A checkpoint needs --concepts and --prompts: what is erased, and prompts that ask for it (or --keep, to see only "
            "what it costs)."
        )
    attacked = attacks_of(arguments)
    if attacked and not arguments.prompts:
        raise InputError("--attacks are on prompts that ask for the concept: give some as --prompts.")
    if INVERSION in attacked and arguments.detector == NOTHING:
        raise InputError(
            "--attacks inversion chooses between starts by a detector: give another --detector than 'none'."
        )
    sets = read_sets(arguments.prompts, arguments.keep, arguments.category, arguments.count, arguments.size)
    return Checkpoint(
        arguments.checkpoint,
        "\n".join(arguments.concepts),
        "",
        sets,
        [asked_name(path, arguments.category) for path in arguments.prompts],
        attacked,
        open_detector(arguments),
        Sampling(arguments.steps),
        arguments.inversion_steps,
    )
