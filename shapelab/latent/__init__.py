"""Shape spaces, and what is done with codes: embedding, histograms, classification, paths.

A `ShapeSpace` turns label maps into codes and back; a table of codes (one row a subject, columns z00, z01,
... and the subject's facts) is all that the analyses take. Names are imported when first asked for.
"""

from importlib import import_module as _import_module
from typing import Any

#: Name -> module of this room it lives in.
_NAMES = {
    "encode_cohort": "codes",
    "code_columns": "codes",
    "read_codes": "codes",
    "write_codes": "codes",
    "pair_phases": "codes",
    "embed": "embedding",
    "embedding_quality": "embedding",
    "code_statistics": "histograms",
    "decoder_sensitivity": "histograms",
    "classify": "classification",
    "classification_report": "classification",
    "ClassificationResult": "classification",
    "FoldFeatures": "features",
    "FixedFeatures": "features",
    "SpaceFeatures": "features",
    "important_dimensions": "importance",
    "traverse": "paths",
    "interpolate": "paths",
    "blend": "paths",
    "path_table": "paths",
}

__all__ = sorted(_NAMES)


def __getattr__(name: str) -> Any:
    """Import what is asked for (PEP 562)."""
    if name in _NAMES:
        value = getattr(_import_module(f"shapelab.latent.{_NAMES[name]}"), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'shapelab.latent' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_NAMES})
