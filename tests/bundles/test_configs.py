"""Configs: rules for all bundles, and the properties that MONAI requires."""

import pytest
from monai.bundle import ConfigParser

from common.errors import explained
from common.ssl.layers import MERGINGS
from tests.bundles.workflows import SSL, SUPERVISED, config, untrained, workflow
from tests.support import BUNDLES, MODALITIES

PREDICTING = [(bundle, name) for bundle in SUPERVISED for name in ("evaluate", "inference")]
PREDICTING += [(bundle, "inference") for bundle in SSL]


@pytest.mark.parametrize(("bundle", "name"), PREDICTING)
def test_training_and_prediction_prepare_an_image_alike_and_build_the_same_network(bundle, name):
    def of_image(steps):
        """The steps that change the image, without the check that training lacks, and without the keys of labels."""
        steps = [step for step in steps if step["_target_"] != "common.data.CheckPreparationd"]
        steps = [step for step in steps if "image" in step.get("keys", step.get("image"))]
        switch = "$not @crop_foreground"  # crop of the foreground (DIFF-20)
        of_published_files = ("Flipd", "Resized")  # disabled by default; no training has these settings
        return [
            {key: value for key, value in step.items() if key not in ("keys", "label") and value != switch}
            for step in steps
            if step["_target_"] not in of_published_files
        ]

    train, predict = config(bundle), config(bundle, name)
    assert of_image(predict["preprocessing"]["transforms"]) == of_image(train["deterministic_transforms"])
    assert predict["modalities"] == f"$@trained.get('modalities', {train['modalities']})"
    of_one = {"drop_rate", "prior", "use_checkpoint", "head_tokens", "tasks"}
    of_one |= {"_target_", "architecture"} if bundle in SSL else {*()}  # embeddings are SwinUNETR's alone
    ours, theirs = (
        {key: value for key, value in content["network_def"].items() if key not in of_one}
        for content in (predict, train)
    )
    assert ours == theirs
    assert predict["network_def"].get("tasks") == ("$@trained.get('tasks')" if bundle in SSL else None)


@pytest.mark.parametrize(
    ("bundle", "name"),
    [("brats_finetune", "evaluate"), ("brats_finetune", "inference"), ("ukb_ssl_pretrain", "inference")],
)
def test_inference_has_the_properties_that_monai_requires(bundle, name, cohorts, tmp_path):
    """It also takes its options from the checkpoint, and refuses a normalization that differs from the training's."""
    checkpoint = untrained(bundle, tmp_path / "model.pt", normalization="nonzero")
    followed = workflow(bundle, name, cohorts, tmp_path, checkpoint=checkpoint)
    assert followed.check_properties() == []
    options = followed.parser.get_parsed_content("options")
    assert (options.normalization, options.modalities) == ("nonzero", MODALITIES[bundle])
    with pytest.raises(RuntimeError, match="Failed to") as error:
        workflow(bundle, name, cohorts, tmp_path, checkpoint=checkpoint, normalization="brain")
    assert "--normalization=brain: " in explained(error.value)


@pytest.mark.parametrize(("bundle", "name"), [*((bundle, "train") for bundle in BUNDLES), *PREDICTING])
def test_a_network_has_the_patch_merging_of_its_weights(bundle, name, tmp_path):
    parser = ConfigParser(config(bundle, name))
    parser["model_size"] = "micro"
    weights = untrained(bundle, tmp_path / "a.pt", merging="monai_1_4")
    parser["pretrained" if name == "train" else "checkpoint"] = weights
    parser.get_parsed_content("imports")
    encoder = parser.get_parsed_content("network_def").swinViT
    levels = (encoder.layers1, encoder.layers2, encoder.layers3, encoder.layers4)
    assert [type(level[0].downsample) for level in levels] == [MERGINGS["monai_1_4"]] * 4
