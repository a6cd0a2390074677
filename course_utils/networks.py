"""Networks that more than one chapter uses."""

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence


class FashionCNN(nn.Module):
    """Chapter 5's classifier of 28 × 28 grey images: two convolutional blocks, then two linear layers.

    (batch, 1, 28, 28) in [0, 1] → logits (batch, 10). 206,970 parameters.
    """

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1, bias=False),  # (batch, 16, 28, 28)
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.MaxPool2d(2),  # (batch, 16, 14, 14)
            nn.Conv2d(16, 32, 3, padding=1, bias=False),  # (batch, 32, 14, 14)
            nn.BatchNorm2d(32),
            nn.ReLU(),
            nn.MaxPool2d(2),  # (batch, 32, 7, 7)
        )
        self.classifier = nn.Sequential(
            nn.Flatten(),  # (batch, 32 · 7 · 7)
            nn.Linear(32 * 7 * 7, 128),
            nn.ReLU(),
            nn.Linear(128, 10),
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits (batch, 10) of images (batch, 1, 28, 28)."""
        return self.classifier(self.features(images))


class Pronouncer(nn.Module):
    """Chapter 7's encoder-decoder with attention: it reads the letters of a word and writes its phonemes.

    Two LSTMs, and attention from each step of the second to all steps of the first. 0 is padding in both vocabularies.
    """

    def __init__(self, letters: int, phonemes: int, width: int = 192) -> None:
        super().__init__()
        self.letters = nn.Embedding(letters, 64, padding_idx=0)
        self.encoder = nn.LSTM(64, width // 2, batch_first=True, bidirectional=True)
        self.phonemes = nn.Embedding(phonemes, 64, padding_idx=0)
        self.decoder = nn.LSTM(64, width, batch_first=True)
        self.query = nn.Linear(width, width)
        self.mix = nn.Linear(2 * width, width)
        self.out = nn.Linear(width, phonemes)

    def encode(self, words: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, tuple[torch.Tensor, torch.Tensor]]:
        """Read words (batch, s): each letter in its word (batch, s, width), the mask (batch, s), and the last state."""
        mask = words != 0
        packed = pack_padded_sequence(self.letters(words), mask.sum(1).cpu(), batch_first=True, enforce_sorted=False)
        packed, state = self.encoder(packed)
        memory, _ = pad_packed_sequence(packed, batch_first=True, total_length=words.shape[1])
        h, c = (torch.cat([forth, back], dim=-1).unsqueeze(0) for forth, back in state)  # each (1, batch, width)
        return memory, mask, (h, c)

    def decode(
        self, phonemes: torch.Tensor, memory: torch.Tensor, mask: torch.Tensor, state: tuple[torch.Tensor, torch.Tensor]
    ) -> tuple[torch.Tensor, torch.Tensor, tuple[torch.Tensor, torch.Tensor]]:
        """Go on from a state by phonemes (batch, t): logits (batch, t, phonemes), weights (batch, t, s), new state."""
        hidden, state = self.decoder(self.phonemes(phonemes), state)  # (batch, t, width)
        scores = self.query(hidden) @ memory.mT / memory.shape[-1] ** 0.5  # (batch, t, s)
        weights = scores.masked_fill(~mask[:, None], -torch.inf).softmax(-1)
        mixed = self.mix(torch.cat([hidden, weights @ memory], dim=-1)).tanh()  # (batch, t, width)
        return self.out(mixed), weights, state

    def forward(self, words: torch.Tensor, phonemes: torch.Tensor) -> torch.Tensor:
        """Logits (batch, t, phonemes) for the phoneme after each of `phonemes` (batch, t), given words (batch, s)."""
        logits, _, _ = self.decode(phonemes, *self.encode(words))
        return logits


class TransformerLM(nn.Module):
    """Chapter 7's language model: a Transformer that sees only what stands before.

    Token ids (batch, t) → logits (batch, t, vocabulary) for the token after each of them.
    """

    def __init__(self, vocabulary: int, context: int = 128, width: int = 128, heads: int = 4, blocks: int = 3) -> None:
        super().__init__()
        self.context = context
        self.embedding = nn.Embedding(vocabulary, width)
        nn.init.normal_(self.embedding.weight, std=width**-0.5)
        self.register_buffer("positions", _sinusoids(context, width), persistent=False)
        self.blocks = nn.ModuleList(TransformerBlock(width, heads) for _ in range(blocks))
        self.norm = nn.LayerNorm(width)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Logits (batch, t, vocabulary) of ids (batch, t), t at most `context`."""
        width = self.embedding.embedding_dim
        x = self.embedding(ids) * width**0.5 + self.positions[: ids.shape[1]]  # (batch, t, width)
        for block in self.blocks:
            x = block(x)
        return self.norm(x) @ self.embedding.weight.T  # the same vectors going in and coming out


class TransformerBlock(nn.Module):
    """Masked self-attention, then two linear layers at each position; the input is added to what each of them gives."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.before_attention = nn.LayerNorm(width)
        self.query_key_value = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.before_layers = nn.LayerNorm(width)
        self.layers = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(batch, t, width) → (batch, t, width); position i is computed from positions 0 to i."""
        x = x + self.attend(self.before_attention(x))
        return x + self.layers(self.before_layers(x))

    def attend(self, x: torch.Tensor) -> torch.Tensor:
        """Masked self-attention by PyTorch's own function, (batch, t, width) → (batch, t, width)."""
        b, t, width = x.shape
        by_head = self.query_key_value(x).view(b, t, 3, self.heads, width // self.heads)
        q, k, v = by_head.permute(2, 0, 3, 1, 4)  # each (batch, heads, t, width / heads)
        values = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.out(values.transpose(1, 2).reshape(b, t, width))


def _sinusoids(length: int, width: int) -> torch.Tensor:
    """Positions as sines (even columns) and cosines (odd columns) of many wavelengths, (length, width)."""
    rates = 10000 ** (-torch.arange(0, width, 2) / width)  # (width / 2,)
    angles = torch.outer(torch.arange(length), rates)  # (length, width / 2)
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)
