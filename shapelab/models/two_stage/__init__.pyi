from . import (
    baseline as baseline,
    losses as losses,
    networks as networks,
    segmenter as segmenter,
    training as training,
    volumes as volumes,
)
from .baseline import UNet as UNet, train_unet as train_unet
from .networks import (
    Net1 as Net1,
    Net2 as Net2,
    TwoStageConfig as TwoStageConfig,
    TwoStageNet as TwoStageNet,
    short_axis_config as short_axis_config,
)
from .segmenter import TwoStage as TwoStage
from .training import train_two_stage as train_two_stage
from .volumes import Volume as Volume, volume_of as volume_of, volumes_of as volumes_of
