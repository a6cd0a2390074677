"""The trained diffusion model and its pipeline."""

import pytest
import torch
from safetensors.torch import load_file

from course_utils.checkpoints import trained
from course_utils.diffusion import CLASSES, ClothesPipeline, clothes_pipeline
from course_utils.measured import measured
from course_utils.networks import FashionCNN


@pytest.fixture(scope="module")
def pipeline():
    return clothes_pipeline()


def test_most_samples_are_read_as_the_label_asked_for(pipeline):
    classifier = FashionCNN().eval()
    classifier.load_state_dict(load_file(trained("fashion_classifier")))
    images = pipeline(CLASSES * 2, 10, generator=torch.Generator().manual_seed(0), output_type="pt").images
    assert images.shape == (20, 1, 28, 28) and images.min() >= 0 and images.max() <= 1
    with torch.no_grad():
        hits = (classifier(images).argmax(1) == torch.arange(20) % 10).sum()
    assert hits >= 14


def test_equal_seeds_give_equal_pictures_as_pil_and_as_tensor(pipeline):
    def draw(kind):
        generator = torch.Generator().manual_seed(1)
        return pipeline(["Bag"], 2, generator=generator, output_type=kind).images

    assert torch.equal(draw("pt"), draw("pt"))
    [picture] = draw("pil")
    assert picture.size == (28, 28)
    assert list(picture.get_flattened_data()) == (draw("pt") * 255).round().int().flatten().tolist()


def test_the_pipeline_is_saved_and_loaded(pipeline, tmp_path):
    pipeline.save_pretrained(tmp_path)
    loaded = ClothesPipeline.from_pretrained(tmp_path)
    one, other = (p(["Coat"], 2, 1.5, torch.Generator().manual_seed(0), "pt").images for p in (pipeline, loaded))
    assert torch.equal(one, other)


def test_the_checkpoint_and_the_comparison_are_of_the_promised_size():
    assert trained("fashion_unet").stat().st_size < 6_000_000
    results = measured("schedulers")
    assert max(result["share"] for result in results["steps"].values()) >= 0.85
