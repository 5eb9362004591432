"""CONDITIONING taken apart and put together again, without touching the one that came in."""

from __future__ import annotations

import pytest
import torch
from rece_pack.nodes.host.errors import WrongConnectionError
from rece_pack.nodes.host.text.conditioning import entries_of, with_added
from rece_pack.rece_ops import InputError

TOKENS = torch.arange(12.0).view(3, 4)


def test_what_is_added_goes_to_every_window_and_to_the_pooled_output() -> None:
    embedding, pooled = torch.ones(2, 7, 4), torch.ones(1, 5)
    given = [[embedding, {"pooled_output": pooled, "other": "kept"}], [embedding, {}]]
    found = with_added(given, TOKENS, 2 * torch.ones(1, 5))
    for one, _ in found:
        assert torch.equal(one, 1 + torch.cat([TOKENS, TOKENS, TOKENS[:1]]).expand(2, -1, -1))
    assert found[0][1]["other"] == "kept"
    assert torch.equal(found[0][1]["pooled_output"], 3 * torch.ones(1, 5))
    assert found[1][1] == {}
    assert torch.equal(embedding, torch.ones(2, 7, 4))
    assert torch.equal(pooled, torch.ones(1, 5))
    assert torch.equal(with_added(given, TOKENS, None)[0][1]["pooled_output"], pooled)


def test_what_comes_from_another_text_encoder_is_refused() -> None:
    with pytest.raises(WrongConnectionError, match="CONDITIONING is None or empty"):
        with_added([], TOKENS, None)
    for embedding in (torch.ones(1, 3, 5), torch.ones(3, 4)):
        with pytest.raises(
            WrongConnectionError, match=r"but this CLIP makes \[1, 3, 4\]: encode the prompt with the same"
        ):
            with_added([[embedding, {}]], TOKENS, None)
    with pytest.raises(InputError, match="has 5 numbers, but this CLIP makes 6"):
        with_added([[torch.ones(1, 3, 4), {"pooled_output": torch.ones(1, 5)}]], TOKENS, torch.ones(1, 6))


def test_each_prompt_of_a_batch_is_an_entry_with_its_own_values() -> None:
    embedding, pooled = torch.rand(2, 3, 4), torch.rand(2, 5)
    values = {"pooled_output": pooled, "of all": torch.rand(2), "shared": torch.rand(3, 5), "text": "kept"}
    found = entries_of([[embedding, values]])
    assert len(found) == 2
    for place, (one, its) in enumerate(found):
        assert torch.equal(one, embedding[place : place + 1])
        assert torch.equal(its["pooled_output"], pooled[place : place + 1])
        assert its["of all"] is values["of all"]
        assert its["shared"] is values["shared"]
        assert its["text"] == "kept"
