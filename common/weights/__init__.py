"""Checkpoints: read any known layout, and fit the weights to a network by modality name."""

from .. import lazy

__getattr__ = lazy(
    __name__,
    checkpoints="ENCODER Layout STEM checkpoint_files load measured_of merging_of metadata_of read settings_of write",
    surgery="by_module initialise restore transfer",
)
