"""HTML pages that load nothing: templates, charts, volumes to draw, pages of evaluations and of slices."""

from .. import lazy

__getattr__ = lazy(__name__, {"evaluation": "write_page", "handlers": "EvaluationFiles Publish SlicePages"})
