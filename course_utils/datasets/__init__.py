"""Real data that comes with the course: nothing here goes to the network, and what is read is checked first.

Each folder beside this file holds one data set with its SOURCE and LICENSE. SHA256SUMS lists its files as they are when
unpacked, and whatever is read is held against it, every time. A missing or damaged file raises DataError.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from course_utils.files import DataError, build_once, cache_folder, sha256, sums, unpack

if TYPE_CHECKING:
    from torchvision.datasets import FashionMNIST

__all__ = ["DataError", "Review", "Speech", "fashion_mnist", "pronunciations", "reviews", "speeches"]

HERE = Path(__file__).parent


class Review(NamedTuple):
    """One sentence from a review."""

    sentence: str
    label: int  # 1 positive, 0 negative
    source: str  # "amazon" (products), "imdb" (films) or "yelp" (restaurants)


class Speech(NamedTuple):
    """One State of the Union address."""

    year: int
    president: str
    party: str  # "none" for George Washington
    text: str


def fashion_mnist(train: bool = True, transform: Callable[[Any], Any] | None = None) -> "FashionMNIST":
    """Fashion-MNIST, 60,000 training or 10,000 test images, as `torchvision.datasets.FashionMNIST`.

    An item is (image, label): a PIL image of 28 x 28 grey pixels, or what `transform` makes of it, and an int, 0 to 9.
    The first call unpacks 55 MB into the cache folder. Every call checks them, and unpacks them again if damaged.
    """
    from torchvision.datasets import FashionMNIST  # here, because torchvision takes seconds to import

    shipped = HERE / "fashion_mnist"
    names = sums(shipped)

    def intact(raw: Path) -> bool:
        return all(sha256(raw / name) == digest for name, digest in names.items())

    def unpack_all(raw: Path) -> None:
        for name in names:
            (raw / name).write_bytes(unpack(shipped, name))

    root = cache_folder()
    build_once(root / "FashionMNIST" / "raw", intact, unpack_all)
    return FashionMNIST(root, train=train, transform=transform, download=False)


def reviews() -> list[Review]:
    """3,000 labelled sentences: 500 positive and 500 negative from each of three sites, in the order of the source.

    Eighteen sentences occur twice: remove them before a split, or a test sentence may have been trained on.
    """
    found = []
    for source in ("amazon", "imdb", "yelp"):
        records = json.loads(unpack(HERE / "reviews", f"{source}.json"))
        for record in records[:-1]:  # the last record of each file is empty
            # The source read Windows-1252 as Latin-1, which turned dashes into control characters.
            sentence = record["text"].encode("latin-1").decode("cp1252").strip()
            found.append(Review(sentence, record["class"], source))
    return found


def speeches() -> list[Speech]:
    """233 State of the Union addresses from 1790 to 2021, oldest first; 10.7 million characters."""
    found = []
    for line in unpack(HERE / "speeches", "speeches.jsonl").splitlines():
        record = json.loads(line)
        president = record["name"].replace("Mc Kinley", "McKinley")
        text = record["text"].replace("\x02", "/2")  # "4 1/2 per cent", in 1890
        found.append(Speech(record["year"], president, record["party"], text))
    return found


def pronunciations() -> dict[str, list[tuple[str, ...]]]:
    """126,052 English words, each with its pronunciations in the dictionary's order, 135,166 in all.

    A pronunciation is a tuple of ARPAbet phonemes; the digit of a vowel is its stress: 0 none, 1 primary, 2 secondary.
    `pronunciations()["tensor"]` is `[("T", "EH1", "N", "S", "ER0")]`.
    """
    found: dict[str, list[tuple[str, ...]]] = {}
    for line in unpack(HERE / "pronunciations", "cmudict.dict").decode("utf-8").splitlines():
        entry, *phonemes = line.partition("#")[0].split()  # a remark may follow "#"
        word = entry.partition("(")[0]  # "read(2)" is the second pronunciation of "read"
        found.setdefault(word, []).append(tuple(phonemes))
    return found
