"""Checkpoints: read any known layout, and fit the weights to a network by modality name."""

from .. import lazy

__getattr__, __dir__ = lazy(
    __name__,
    {
        "formats": "ENCODER Layout STATED STEM check_bundle checkpoint_files measured_of metadata_of read settings_of",
        "storage": "OTHER_HASH SAFETENSORS load path_of record_of versions write write_plain write_record",
        "surgery": "by_module initialise response_shares restore transfer",
    },
)
