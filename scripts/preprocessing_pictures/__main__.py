"""Pictures of the effect of each transform: `python -m scripts.preprocessing_pictures --output=docs/images`.

A subject of the embedded cohort goes through the transforms of a bundle's train.yaml, one by one, and each transform of
the image gets a panel. The PNG also stores the transforms as text (`transforms`).
"""

from pathlib import Path

from common.cli import run
from common.configs import read
from common.errors import show

__all__ = ["BUNDLES", "main"]

ROOT = Path(__file__).parents[2]
BUNDLES = {"ukb": "ukb_ssl_pretrain", "brats": "brats_finetune", "atlas": "atlas_finetune"}
TITLES = {"ukb": "UK Biobank", "brats": "BraTS 2021", "atlas": "ATLAS v2.0"}


def main(output: str = "docs/images", spacing: float = 1.0) -> None:
    """Draw preprocessing-ukb.png, preprocessing-brats.png and preprocessing-atlas.png.

    Args:
        output: folder.
        spacing: edge of a voxel of the embedded cohort, mm, 1 to 4. The real cohorts have 1.
    """
    from scripts.preprocessing_pictures.drawing import draw, save
    from scripts.preprocessing_pictures.steps import section, steps_of_a_head

    for cohort, bundle in BUNDLES.items():
        config = read([ROOT / "bundles" / bundle / "configs/train.yaml"])
        taken = steps_of_a_head(cohort, config, spacing)
        path = Path(str(output)).expanduser() / f"preprocessing-{cohort}.png"
        modalities = config["modalities"]
        convention = config.get_parsed_content("label_convention") if "label_convention" in config else None
        save(draw(taken, modalities, convention, f"{TITLES[cohort]}, {bundle}"), path, section(config))
        show(f"{path}: {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    run(main, "preprocessing_pictures")
