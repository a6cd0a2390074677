"""The networks that come with trained weights: they load, and they do what their docstrings say."""

import json

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from tokenizers import Tokenizer

from course_utils.checkpoints import trained
from course_utils.networks import Pronouncer, TransformerLM


@pytest.fixture
def pronouncer():
    torch.manual_seed(0)
    return Pronouncer(letters=10, phonemes=12, width=8).eval()


def test_a_word_is_read_alike_alone_and_padded(pronouncer):
    words, phonemes = torch.tensor([[3, 4, 5, 0, 0], [9, 8, 7, 6, 5]]), torch.tensor([[1, 5], [1, 6]])
    alone = pronouncer(words[:1, :3], phonemes[:1])
    torch.testing.assert_close(pronouncer(words, phonemes)[:1], alone)


def test_decoding_step_by_step_gives_what_teacher_forcing_gives(pronouncer):
    words, phonemes = torch.tensor([[3, 4, 5]]), torch.tensor([[1, 5, 6, 7]])
    memory, mask, state = pronouncer.encode(words)
    steps = []
    for one in phonemes.split(1, dim=1):
        logits, weights, state = pronouncer.decode(one, memory, mask, state)
        steps.append(logits)
        torch.testing.assert_close(weights.sum(-1), torch.ones(1, 1))
    torch.testing.assert_close(torch.cat(steps, 1), pronouncer(words, phonemes))


def test_the_language_model_does_not_see_the_future():
    torch.manual_seed(0)
    model = TransformerLM(vocabulary=20, context=8, width=16, heads=2, blocks=2)
    ids = torch.randint(20, (2, 8))
    other = ids.clone()
    other[:, 5] = (other[:, 5] + 1) % 20
    torch.testing.assert_close(model(ids)[:, :5], model(other)[:, :5])
    assert not torch.allclose(model(ids)[:, 5:], model(other)[:, 5:])


@pytest.mark.parametrize(
    ("name", "model"), [("pronunciation", lambda: Pronouncer(27, 72)), ("speeches", lambda: TransformerLM(1024))]
)
def test_the_shipped_weights_fit_and_keep_their_history(name, model):
    model().load_state_dict(load_file(trained(name)))
    with safe_open(trained(name), framework="pt") as file:
        history = json.loads(file.metadata()["history"])
    assert all(values[-1] < values[0] for values in history.values())
    assert trained(name).stat().st_size < 3_000_000


def test_the_tokenizer_of_the_language_model_gives_any_text_back():
    with safe_open(trained("speeches"), framework="pt") as file:
        tokenizer = Tokenizer.from_str(file.metadata()["tokenizer"])
    text = "Fellow-Citizens of the Senate—naïve 🙂"
    assert tokenizer.decode(tokenizer.encode(text).ids) == text
