"""The data that comes with the course: complete, checked, and safe in the cache whatever happens to it."""

import gzip
import hashlib
import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import torchvision

from course_utils import datasets
from course_utils.datasets import DataError

UNPACK = "from course_utils import datasets; print(len(datasets.fashion_mnist()), datasets.fashion_mnist()[0][1])"


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    """An empty cache folder."""
    monkeypatch.setenv("COURSE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def shipped(tmp_path, monkeypatch) -> Path:
    """A copy of the data sets, to be damaged."""
    here = shutil.copytree(datasets.HERE, tmp_path / "datasets")
    monkeypatch.setattr(datasets, "HERE", here)
    return here


def start(code: str) -> subprocess.Popen:
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)


# --- what is shipped ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["fashion_mnist", "pronunciations", "reviews", "speeches"])
def test_each_data_set_has_its_source_licence_and_checksums(name):
    folder = datasets.HERE / name
    assert (folder / "SOURCE").read_text(encoding="utf-8").strip()
    assert (folder / "LICENSE").read_text(encoding="utf-8").strip()
    listed = [line.split() for line in (folder / "SHA256SUMS").read_text(encoding="utf-8").splitlines()]
    assert {f"{file}.gz" for _, file in listed} == {path.name for path in folder.glob("*.gz")}
    for digest, file in listed:
        assert hashlib.sha256(gzip.decompress((folder / f"{file}.gz").read_bytes())).hexdigest() == digest


@pytest.mark.parametrize(("train", "count"), [(True, 60_000), (False, 10_000)])
def test_fashion_mnist_is_torchvisions(cache, capfd, train, count):
    data = datasets.fashion_mnist(train, transform=torchvision.transforms.ToTensor())
    assert isinstance(data, torchvision.datasets.FashionMNIST)
    assert len(data) == count
    assert data.targets.bincount().tolist() == [count // 10] * 10
    image, label = data[0]
    assert image.shape == (1, 28, 28)
    assert data.classes[label] == "Ankle boot"
    assert capfd.readouterr() == ("", "")


def test_reviews_are_three_balanced_thousands():
    reviews = datasets.reviews()
    assert Counter((review.source, review.label) for review in reviews) == {
        (source, label): 500 for source in ("amazon", "imdb", "yelp") for label in (0, 1)
    }
    assert reviews[1] == ("Good case, Excellent value.", 1, "amazon")
    assert all(review.sentence == review.sentence.strip() and review.sentence.isprintable() for review in reviews)
    assert any("all of them – a true masterpiece" in review.sentence for review in reviews)
    assert len({review.sentence for review in reviews}) == 3000 - 18


def test_speeches_are_in_the_order_of_their_dates():
    speeches = datasets.speeches()
    assert len(speeches) == 233
    years = [speech.year for speech in speeches]
    assert years == sorted(years)
    assert set(range(1790, 2022)) - set(years) == {1933}
    assert [speech.president for speech in speeches if speech.year == 1961] == ["Dwight D Eisenhower", "John F Kennedy"]
    assert speeches[0][:3] == (1790, "George Washington", "none")
    assert all(len(speech.text) > 5000 and speech.text.isprintable() for speech in speeches)


def test_pronunciations_keep_every_variant():
    words = datasets.pronunciations()
    assert len(words) == 126_052
    assert sum(map(len, words.values())) == 135_166
    assert words["tensor"] == [("T", "EH1", "N", "S", "ER0")]
    assert words["read"] == [("R", "EH1", "D"), ("R", "IY1", "D")]
    assert words["gdp"] == [("G", "IY1", "D", "IY1", "P", "IY1")]  # a remark follows it in the file
    assert (
        len({phoneme.rstrip("012") for variants in words.values() for variant in variants for phoneme in variant}) == 39
    )


# --- what goes wrong ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "file", "read"),
    [
        ("fashion_mnist", "train-images-idx3-ubyte.gz", datasets.fashion_mnist),
        ("reviews", "imdb.json.gz", datasets.reviews),
        ("speeches", "speeches.jsonl.gz", datasets.speeches),
        ("pronunciations", "cmudict.dict.gz", datasets.pronunciations),
    ],
)
def test_a_damaged_or_missing_file_is_one_clear_sentence(cache, shipped, name, file, read):
    path = shipped / name / file
    whole = path.read_bytes()
    other = gzip.compress(b"another text")
    for damaged in (whole[:-1000], whole[:5000] + b"\0" * 8 + whole[5008:], other, b"not gzip at all", b""):
        path.write_bytes(damaged)
        with pytest.raises(DataError) as error:
            read()
        assert str(error.value) == (
            f"{path} is damaged. It is part of the course: install the course again, or restore it with git."
        )
    path.unlink()
    with pytest.raises(DataError, match=r"\.gz is missing\. It is part of the course"):
        read()
    assert not (cache / "FashionMNIST" / "raw").exists()
    assert not (cache / "FashionMNIST" / "raw.part").exists()


def test_missing_checksums_are_one_clear_sentence(shipped):
    (shipped / "reviews" / "SHA256SUMS").unlink()
    with pytest.raises(DataError, match="SHA256SUMS is missing"):
        datasets.reviews()


def test_a_damaged_cache_is_rebuilt(cache):
    datasets.fashion_mnist()
    images = cache / "FashionMNIST" / "raw" / "t10k-images-idx3-ubyte"
    whole = images.read_bytes()
    for damaged in (whole[:1000], whole[:5000] + b"\xff" * 8 + whole[5008:]):
        images.write_bytes(damaged)
        datasets.fashion_mnist(train=False)
        assert images.read_bytes() == whole
    images.unlink()
    assert len(datasets.fashion_mnist(train=False)) == 10_000


def test_two_processes_may_unpack_at_once(cache):
    both = [start(UNPACK), start(UNPACK)]
    assert [process.communicate(timeout=120)[0] for process in both] == ["60000 9\n", "60000 9\n"]
    assert sorted(path.name for path in (cache / "FashionMNIST").iterdir() if path.suffix != ".lock") == ["raw"]


def test_a_process_killed_while_unpacking_does_no_harm(cache):
    process = start(
        """
import time
from course_utils import datasets

unpack = datasets.unpack


def stop_halfway(folder, name):
    if name.startswith("train"):
        print("halfway", flush=True)
        time.sleep(600)
    return unpack(folder, name)


datasets.unpack = stop_halfway
datasets.fashion_mnist()
"""
    )
    with process:
        assert process.stdout.readline() == "halfway\n"
        process.kill()
    folder = cache / "FashionMNIST"
    assert (folder / "raw.part").is_dir()
    assert not (folder / "raw").exists()
    assert len(datasets.fashion_mnist()) == 60_000
    assert not (folder / "raw.part").exists()


def test_a_cache_folder_that_cannot_be_made_is_one_clear_sentence(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("COURSE_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(DataError, match=r"The cache folder .*cache cannot be written \(.+\): make room there, or set"):
        datasets.fashion_mnist()


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="only POSIX has folders that their owner may not write to")
def test_a_read_only_cache_folder_is_one_clear_sentence(cache):
    if os.geteuid() == 0 and not all(folder.stat().st_mode & 0o001 for folder in Path(__file__).parents):
        pytest.skip("root may write anywhere, and nobody else may read this checkout")
    cache.mkdir(mode=0o555)
    code = """
import os

import torchvision

from course_utils import datasets

if os.geteuid() == 0:
    os.setuid(65534)  # root may write anywhere
try:
    datasets.fashion_mnist()
except datasets.DataError as error:
    print(error)
"""
    out, _ = start(code).communicate(timeout=120)
    assert out == (
        f"The cache folder {cache} cannot be written (Permission denied): "
        "make room there, or set COURSE_CACHE to a folder that you may write to.\n"
    )
