"""The grouped attention is plain softmax attention, whatever the padding."""

import pytest
import torch

from policy.attention import additive, answer_positions, causal_mask, grouped_attention


def plain_attention(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, is_allowed: torch.Tensor
) -> torch.Tensor:
    """softmax(q k^T / sqrt(D)) v, one query head at a time (Vaswani et al. 2017, equation 1)."""
    group = query.shape[1] // key.shape[1]
    outs = []
    for head in range(query.shape[1]):
        scores = query[:, head] @ key[:, head // group].transpose(1, 2) / query.shape[-1] ** 0.5
        weights = torch.softmax(scores.masked_fill(~is_allowed, -torch.inf), dim=-1)
        outs.append(weights @ value[:, head // group])
    return torch.stack(outs, dim=2)


@pytest.mark.parametrize(("num_heads", "num_key_heads"), [(4, 4), (6, 2), (3, 1)])
def test_it_equals_plain_attention_with_causal_mask_and_padding(
    num_heads: int, num_key_heads: int
) -> None:
    torch.manual_seed(0)
    query = torch.randn(3, num_heads, 5, 8)
    key, value = torch.randn(2, 3, num_key_heads, 5, 8).unbind(0)
    is_token_BT = torch.tensor(
        [[1, 1, 1, 1, 1], [1, 1, 1, 0, 0], [1, 0, 0, 0, 0]], dtype=torch.bool
    )
    out, _ = grouped_attention(
        torch.nn.Identity(), query, key, value, causal_mask(is_token_BT, torch.float32)
    )
    is_past = torch.ones(5, 5, dtype=torch.bool).tril()
    is_allowed = is_past & is_token_BT[:, None] | torch.eye(5, dtype=torch.bool)
    expected = plain_attention(query, key, value, is_allowed)
    assert out.shape == (3, 5, num_heads, 8)
    assert torch.allclose(out[is_token_BT], expected[is_token_BT], atol=1e-5)


def test_one_query_over_a_longer_cache_sees_only_what_is_visible() -> None:
    torch.manual_seed(1)
    query = torch.randn(2, 4, 1, 8)
    key, value = torch.randn(2, 2, 2, 6, 8).unbind(0)
    is_visible = torch.arange(6)[None] <= torch.tensor([2, 5])[:, None]
    mask = additive(is_visible[:, None, None], torch.float32)
    out, _ = grouped_attention(torch.nn.Identity(), query, key, value, mask)
    key[0, :, 3:], value[0, :, 3:] = 1e3, 1e3  # beyond what the first sequence sees
    again, _ = grouped_attention(torch.nn.Identity(), query, key, value, mask)
    assert torch.equal(out, again)
    expected = plain_attention(query, key, value, is_visible[:, None])
    assert torch.allclose(out, expected, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_mask_blocks_without_infinities(dtype: torch.dtype) -> None:
    mask = additive(torch.tensor([True, False]), dtype)
    assert mask[0] == 0
    assert mask.isfinite().all()
    assert torch.softmax(mask, -1)[1] == 0


def test_an_answer_sees_its_prompt_and_itself_and_goes_on_where_the_prompt_ends() -> None:
    answers_BS = torch.tensor([[0, 0, 1, 1, 2, -1], [0, 1, 2, 2, 2, 3]])
    assert answer_positions(answers_BS)[0, :5].tolist() == [0, 1, 2, 3, 2]
    assert answer_positions(answers_BS)[1].tolist() == [0, 1, 1, 2, 3, 1]
    mask = causal_mask(answers_BS >= 0, torch.float32, answers_BS)
    seen = [[i for i in range(6) if mask[0, 0, t, i] == 0] for t in range(5)]
    assert seen == [[0], [0, 1], [0, 1, 2], [0, 1, 2, 3], [0, 1, 4]]
