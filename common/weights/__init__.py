"""Checkpoints: read any known layout, fit it to a network by modality name."""

from .. import lazy

__getattr__ = lazy(
    __name__,
    {
        "formats": "Checkpoint ENCODER Layout STEM checkpoint_files measured_of metadata_of read settings_of",
        "plain": "read_record record_of write_plain write_record",
        "storage": "load path_of versions write",
        "surgery": "Report by_module initialise response_shares restore transfer",
    },
)
