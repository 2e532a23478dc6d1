"""Architectures: images (N, C, H, W) in [0, 1] in, logits (N, classes) out; normalisation is a layer of the model."""

from robustml.models.badnets_cnn import BadNetsCNN
from robustml.models.batch_norm_cnn import BatchNormCNN
from robustml.models.checkpoints import load_checkpoint
from robustml.models.digits_cnn import DigitsCNN
from robustml.models.madry_cnn import MadryCNN
from robustml.models.mlp import MLP
from robustml.models.normalize import Normalize
from robustml.models.resnet import PreActResNet18, ResNet18
from robustml.models.single_layer_cnn import SingleLayerCNN
from robustml.models.smoothed import SmoothedModel
from robustml.models.timm_model import timm_model
from robustml.models.tone_cnn import ToneCNN
from robustml.models.trades_small_cnn import TradesSmallCNN
from robustml.models.wide_resnet import WideResNet
from robustml.models.wong_cnn import WongCNN
from robustml.models.wrapped import Wrapped, as_module

__all__ = [
    "MLP",
    "BadNetsCNN",
    "BatchNormCNN",
    "DigitsCNN",
    "MadryCNN",
    "Normalize",
    "PreActResNet18",
    "ResNet18",
    "SingleLayerCNN",
    "SmoothedModel",
    "ToneCNN",
    "TradesSmallCNN",
    "WideResNet",
    "WongCNN",
    "Wrapped",
    "as_module",
    "load_checkpoint",
    "timm_model",
]
