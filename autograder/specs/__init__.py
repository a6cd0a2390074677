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
    Chapter(2, "autograd", "Autograd"),
    Chapter(3, "data", "Data pipelines"),
    Chapter(4, "modules", "nn.Module"),
    Chapter(5, "training", "Training loops"),
    Chapter(6, "tensorboard", "TensorBoard"),
    Chapter(7, "attention", "Sequences and attention"),
    Chapter(8, "huggingface", "Hugging Face"),
    Chapter(9, "peft", "Parameter-efficient fine-tuning"),
    Chapter(10, "diffusion", "Diffusers"),
]
