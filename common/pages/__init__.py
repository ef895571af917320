"""HTML pages that load nothing: templates, charts, volumes to draw slices of, the page of an evaluation."""

from common import lazy

__getattr__ = lazy(__name__, {"evaluation": "page_of write_page", "handlers": "EvaluationPage"})
