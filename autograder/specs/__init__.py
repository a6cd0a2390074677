"""The specs: one module per chapter, named after the chapter's topic, listed here in the order of the book."""

from typing import NamedTuple


class Chapter(NamedTuple):
    """A chapter's topic, which names its files, and its title, which the reader sees."""

    number: int
    topic: str
    title: str

    @property
    def stem(self) -> str:
        """The name that its notebooks share, such as `01_tensors`."""
        return f"{self.number:02d}_{self.topic}"


CHAPTERS = [
    Chapter(1, "tensors", "Tensors and einsum"),
    Chapter(9, "peft", "Parameter-efficient fine-tuning"),
]
