from . import (
    autoencoder as autoencoder,
    baselines as baselines,
    predictor as predictor,
    prior as prior,
    sr_baselines as sr_baselines,
    subpixel as subpixel,
    tl as tl,
    trainer as trainer,
)
from .autoencoder import (
    AEConfig as AEConfig,
    AESpace as AESpace,
    Autoencoder as Autoencoder,
    STRIDE as STRIDE,
    measure_statistics as measure_statistics,
    rotate_to_principal_axes as rotate_to_principal_axes,
    train_autoencoder as train_autoencoder,
)
from .predictor import Predictor as Predictor, PredictorConfig as PredictorConfig
from .prior import ACNNLoss as ACNNLoss
from .subpixel import SubPixelConfig as SubPixelConfig, SubPixelNet as SubPixelNet
from .tl import TLNetwork as TLNetwork, TLSpace as TLSpace, train_tl_network as train_tl_network
from .trainer import (
    InputSettings as InputSettings,
    Training as Training,
    lr_stacks as lr_stacks,
    predict_images as predict_images,
    predict_labels as predict_labels,
    train_network as train_network,
)
