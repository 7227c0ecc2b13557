from . import (
    classification as classification,
    codes as codes,
    embedding as embedding,
    features as features,
    folds as folds,
    histograms as histograms,
    importance as importance,
    paths as paths,
    results as results,
)
from .classification import (
    ClassificationResult as ClassificationResult,
    CrossValidation as CrossValidation,
    classification_report as classification_report,
    classify as classify,
)
from .codes import (
    code_columns as code_columns,
    encode_cohort as encode_cohort,
    pair_phases as pair_phases,
    read_codes as read_codes,
    write_codes as write_codes,
)
from .embedding import embed as embed, embedding_quality as embedding_quality
from .features import FixedFeatures as FixedFeatures, FoldFeatures as FoldFeatures, SpaceFeatures as SpaceFeatures
from .histograms import code_statistics as code_statistics, decoder_sensitivity as decoder_sensitivity
from .importance import important_dimensions as important_dimensions
from .paths import blend as blend, interpolate as interpolate, path_table as path_table, traverse as traverse
