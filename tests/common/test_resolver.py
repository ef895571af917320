"""The internals of MONAI that this project relies on, and their version."""

import monai
from monai.bundle import ConfigParser

from common.resolver import resolver


def test_the_resolver_of_a_config_is_found_from_what_it_builds():
    """After an update of MONAI, this test shows whether `common.resolver` still works."""
    assert monai.__version__ == "1.6.1"
    parser = ConfigParser({"result": {"_target_": "common.resolver.resolver"}, "amp": "true", "used": "$@amp"})
    result = parser.get_parsed_content("result")
    assert result is parser.ref_resolver
    assert {"result", "amp", "used"} <= result.items.keys()
    result.resolved_content["amp"] = True  # as `common.options.read` does
    assert parser.get_parsed_content("used") is True


def test_without_a_config_there_is_none():
    assert resolver() is None
