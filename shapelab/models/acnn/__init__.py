"""The ACNN paper, network by network: autoencoder (Table V), T-L network (Table IV), sub-pixel backbone (Fig. 2),
and the objectives that carry a shape prior (equations 1 and 2)."""

from shapelab.models.acnn.autoencoder import (
    STRIDE,
    AEConfig,
    AESpace,
    Autoencoder,
    measure_statistics,
    rotate_to_principal_axes,
    train_autoencoder,
)
from shapelab.models.acnn.predictor import Predictor, PredictorConfig
from shapelab.models.acnn.prior import ACNNLoss
from shapelab.models.acnn.subpixel import SubPixelConfig, SubPixelNet
from shapelab.models.acnn.tl import TLNetwork, TLSpace, train_tl_network
from shapelab.models.acnn.trainer import (
    InputSettings,
    Training,
    lr_stacks,
    predict_images,
    predict_labels,
    train_network,
)
from shapelab.spaces.kept import load_network, save_network

__all__ = [
    "STRIDE",
    "ACNNLoss",
    "InputSettings",
    "Predictor",
    "PredictorConfig",
    "SubPixelConfig",
    "SubPixelNet",
    "TLNetwork",
    "TLSpace",
    "Training",
    "load_network",
    "lr_stacks",
    "predict_images",
    "predict_labels",
    "save_network",
    "train_network",
    "train_tl_network",
    "AEConfig",
    "AESpace",
    "Autoencoder",
    "measure_statistics",
    "rotate_to_principal_axes",
    "train_autoencoder",
]
